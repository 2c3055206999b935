// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSupervisorDies holds that a machine dies with its supervisor, at once and
// alone, whether a server watches or not, and that what is left can be seen and
// cleared.
func TestSupervisorDies(t *testing.T) {
	in := Install(t)
	server := in.Serve(t)
	session := server.Connect(t)
	var ids [3]string
	for i := range ids {
		var env environment
		session.Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
		ids[i] = env.ID
	}
	survivor := ids[2]
	rows := ps(t, in)
	// A machine that was started anew has another one.
	bootID := func() string {
		return in.Command(t, "exec", survivor, "--", "cat", "/proc/sys/kernel/random/boot_id")
	}
	booted := bootID()

	killSupervisor(t, rows[ids[0]])
	require.Contains(t, session.Refused(t, "execute", map[string]any{"environment_id": ids[0], "code": "1"}), "its supervisor")
	var ran executed
	session.Call(t, "execute", map[string]any{"environment_id": survivor, "code": "print(6*7)"}, &ran)
	require.Equal(t, "42\n", ran.Stdout)

	server.Kill()
	killSupervisor(t, rows[ids[1]])
	after := ps(t, in)
	for _, id := range ids[:2] {
		require.Equal(t, "dead", after[id].State, id)
		require.Equal(t, "its supervisor was killed", after[id].Why, id)
		require.Zero(t, after[id].VMMPid, id)
	}
	require.Equal(t, "running", after[survivor].State)
	require.Equal(t, rows[survivor].VMMPid, after[survivor].VMMPid)
	require.Equal(t, booted, bootID())

	for _, id := range ids[:2] {
		// The disk is still there, or clearing it would show nothing.
		require.FileExists(t, filepath.Join(in.Data, "scratch", id+".ext4"))
		require.Equal(t, id+"\n", in.Command(t, "rm", id))
		nothingLeft(t, in, id)
	}
	require.Equal(t, booted, bootID())
	require.Len(t, ps(t, in), 1)
}

// killSupervisor kills it, and holds that its machine ends within a second.
func killSupervisor(t *testing.T, row listed) {
	t.Helper()
	vmm := watch(t, row.VMMPid)
	require.False(t, vmm.endsWithin(t, 0), "it runs")
	began := time.Now()
	require.NoError(t, syscall.Kill(row.Pid, syscall.SIGKILL))
	require.True(t, vmm.endsWithin(t, time.Second), "the VMM outlives its supervisor")
	t.Logf("the VMM was gone after %s", time.Since(began).Round(100*time.Microsecond))
}
