// SPDX-License-Identifier: Apache-2.0

package bootdisk

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun/spec"
)

func content(t *testing.T, guestd string) Content {
	t.Helper()
	c := Content{Guestd: filepath.Join(t.TempDir(), "guestd"), GuestdInfo: json.RawMessage(`{"version":"v1"}`)}
	require.NoError(t, os.WriteFile(c.Guestd, []byte(guestd), 0o755))
	return c
}

// TestDisk looks at the disk with e2fsprogs, which every host of Waggle has.
func TestDisk(t *testing.T) {
	t.Parallel()
	debugfs, err := exec.LookPath("debugfs")
	if err != nil {
		debugfs = "/sbin/debugfs"
	}
	dir := filepath.Join(t.TempDir(), "cache")
	c := content(t, strings.Repeat("the agent", 5000))
	path, err := Cached(dir, c)
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), strings.Replace(debugfs, "debugfs", "e2fsck", 1), "-fn", path).CombinedOutput()
	require.NoError(t, err, "%s", out)

	ask := func(request string) string {
		out, err := exec.CommandContext(t.Context(), debugfs, "-R", request, path).Output()
		require.NoError(t, err)
		return string(out)
	}
	require.Equal(t, strings.Repeat("the agent", 5000), ask("cat "+spec.Exec))
	require.JSONEq(t, `{"modules":[],"guestd":{"version":"v1"},"power_off":"restart"}`, ask("cat "+spec.BootJSON))
	require.Contains(t, ask("stat "+spec.Exec), "Mode:  0755")
	for _, name := range directories {
		require.Contains(t, ask("stat /"+name), "Type: directory    Mode:  0755", name)
	}
	require.NotContains(t, ask("stats"), "has_journal", "mounted read-only, it must need no recovery")

	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o444), info.Mode())
	require.Less(t, info.Size(), int64(1<<20))
}

func TestCached(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := content(t, "one")
	first, err := Cached(dir, c)
	require.NoError(t, err)
	want, err := os.ReadFile(first)
	require.NoError(t, err)
	require.NoError(t, os.Remove(first))
	again, err := Cached(dir, c)
	require.NoError(t, err)
	require.Equal(t, first, again)
	got, err := os.ReadFile(again)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "the same content gives the same bytes")

	require.NoError(t, os.WriteFile(c.Guestd, []byte("two"), 0o755))
	second, err := Cached(dir, c)
	require.NoError(t, err)
	require.NotEqual(t, first, second, "another agent of the same size")
	c.GuestdInfo = nil
	third, err := Cached(dir, c)
	require.NoError(t, err)
	require.NotEqual(t, second, third)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Cached(dir, Content{Guestd: filepath.Join(dir, "none")})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Cached(dir, Content{Guestd: dir})
	require.ErrorContains(t, err, "is a directory")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
