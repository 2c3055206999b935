// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// small mounts a small file system on dir until the test ends, when in leaves it.
func small(t *testing.T, in *Installation, dir, size string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() {
		in.sweep(t)
		require.NoError(t, syscall.Unmount(dir, 0))
	})
}

// fullDisk has no room for the disks of images.
func fullDisk(t *testing.T, in *Installation) { small(t, in, filepath.Join(in.Data, "disks"), "16m") }

// TestHostDiskFills: an environment whose disk finds no more room on the host
// stands still, says so to everybody, and goes on with nothing lost once there is
// room.
func TestHostDiskFills(t *testing.T) {
	in := Install(t)
	shared := in.Data
	in.Data = dataOf(t, in)
	require.NoError(t, os.MkdirAll(filepath.Join(shared, "disks"), 0o700))
	require.NoError(t, os.Symlink(filepath.Join(shared, "disks"), filepath.Join(in.Data, "disks")))
	scratch := filepath.Join(in.Data, "scratch")
	small(t, in, scratch, "24m")
	c := in.Serve(t).Connect(t)
	var env environment
	c.Call(t, "create_environment", map[string]any{"runtime": "shell"}, &env)
	call := func(code string) map[string]any { return map[string]any{"environment_id": env.ID, "code": code} }

	in.Command(t, "exec", "-d", "--exec-id", "writer", env.ID, "--", "sh", "-c",
		"head -c 40000000 /dev/urandom >big && sync && sha256sum <big >sum && echo done")
	// The call under way ends with the reason, and so does the next at once.
	for range 2 {
		refusal := c.Refused(t, "execute", call("sync; sleep 20"))
		require.Contains(t, refusal, "stands still")
		require.Contains(t, refusal, "the host's disk is full")
		require.Contains(t, refusal, scratch)
	}
	row := onlyRow(t, in)
	require.Equal(t, "running", row.State)
	require.Contains(t, row.Why, "the host's disk is full")

	require.NoError(t, syscall.Mount("tmpfs", scratch, "tmpfs", syscall.MS_REMOUNT, "size=400m"))
	require.Eventually(t, func() bool {
		return onlyRow(t, in).Why == ""
	}, time.Minute, 100*time.Millisecond)
	require.Equal(t, "done\n", in.Command(t, "attach", env.ID+"/writer"))
	var ran executed
	c.Call(t, "execute", call("sha256sum <big | cmp - sum && echo equal"), &ran)
	require.Equal(t, "equal\n", ran.Stdout, ran.Stderr)
	in.Command(t, "rm", env.ID)
	nothingLeft(t, in, env.ID)
}

type psRow struct{ State, Why string }

// onlyRow is what ps says of the only environment.
func onlyRow(t *testing.T, in *Installation) psRow {
	t.Helper()
	var rows []psRow
	require.NoError(t, json.Unmarshal([]byte(in.Command(t, "ps", "--json")), &rows))
	require.Len(t, rows, 1)
	return rows[0]
}
