// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// FuzzInstall takes any message. The names of one that is accepted are arguments
// of every manager, and no options of it, for they run as root.
func FuzzInstall(f *testing.F) {
	for _, msg := range []*guestv1.PackagesInstallRequest{
		{Packages: []string{"six", "numpy==2.4"}, Timeout: durationpb.New(time.Minute)},
		{Packages: []string{"-r", "x\ny", ""}},
		{Packages: []string{"@scope/name@^1"}, Timeout: &durationpb.Duration{Seconds: -1 << 62, Nanos: 2e9}},
	} {
		data, err := proto.Marshal(msg)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		msg := &guestv1.PackagesInstallRequest{}
		if proto.Unmarshal(data, msg) != nil {
			return
		}
		timeout, err := check(msg)
		if err != nil {
			return
		}
		require.Positive(t, timeout)
		for i := range managers {
			m := &managers[i]
			plan := m.plan(msg.GetPackages(), true)
			require.Len(t, plan, len(m.commands))
			argv := plan[len(plan)-1].argv
			names := argv[len(argv)-len(msg.GetPackages()):]
			require.Equal(t, msg.GetPackages(), names)
			for _, name := range names {
				require.False(t, strings.HasPrefix(name, "-") || strings.ContainsAny(name, " \n\x00"), "%q", name)
			}
		}
	})
}
