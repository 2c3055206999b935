// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun/kruntest"
)

// double is libkrun's: it takes the same calls, and in the place of a machine it
// starts guestd as a plain process. It needs no KVM. That process has neither disks
// nor a network card; the double records which ones it was told to make.
var double = backend{
	name: "krun-double", shown: "krun", settings: []string{"WAGGLE_BACKEND=krun", "WAGGLE_KRUN_KVM=/dev/null"},
	program: kruntest.Program, room: 16 << 10, // in the place of a disk it has a little memory
	prepare: func(t *testing.T, in *Installation) {
		t.Helper()
		in.Settings = append(in.Settings, "WAGGLE_KRUN_LIB_DIR="+kruntest.Install(t, kruntest.Options{}))
	},
	missing: undiagnosed,
	devices: func(t *testing.T, in *Installation, id string) (disks, cards []string) {
		t.Helper()
		record := kruntest.Record(t, filepath.Join(in.Run, id, "krun", kruntest.RecordFile))
		require.NotEmpty(t, kruntest.Named(record, "krun_start_enter"))
		opened := map[any]kruntest.Entry{}
		for _, e := range kruntest.Named(record, "open disk") {
			opened[e.Args["path"]] = e
		}
		for _, e := range kruntest.Named(record, "krun_add_disk2") {
			disk := fmt.Sprint(e.Args["id"], map[any]string{true: " ro", false: " rw"}[e.Args["ro"]])
			seen := opened[e.Args["path"]].Args
			require.Equal(t, []any{0.0, e.Args["ro"] == false}, []any{seen["errno"], seen["writable"]}, disk)
			disks = append(disks, disk)
		}
		for _, e := range kruntest.Named(record, "krun_add_net_unixstream") {
			cards = append(cards, fmt.Sprint(e.Args["mac"]))
		}
		return disks, cards
	},
}
