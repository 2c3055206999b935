// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"testing"

	"github.com/stacklok/waggle/host/krun/kruntest"
)

// double is libkrun's: it takes the same calls, and in the place of a machine it
// starts guestd as a plain process. It needs no KVM, and has neither disks nor a
// network card.
var double = backend{
	name: "krun-double", shown: "krun", settings: []string{"WAGGLE_BACKEND=krun", "WAGGLE_KRUN_KVM=/dev/null"},
	program: kruntest.Program, room: 16 << 10, // in the place of a disk it has a little memory
	prepare: func(t *testing.T, in *Installation) {
		t.Helper()
		in.Settings = append(in.Settings, "WAGGLE_KRUN_LIB_DIR="+kruntest.Install(t, kruntest.Options{}))
	},
	missing: undiagnosed,
}
