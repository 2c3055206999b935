// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFullDisk runs itself again in namespaces of its own, where an ordinary
// user too may mount a small tmpfs.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("WAGGLE_TEST_FULL_DISK"); dir != "" {
		fullDisk(t, dir)
		return
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), "WAGGLE_TEST_FULL_DISK="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skip("needs unprivileged user namespaces: sysctl kernel.unprivileged_userns_clone=1")
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestFullDisk")
}

func fullDisk(t *testing.T, dir string) {
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"))
	c, err := Open(dir, Limits{})
	require.NoError(t, err)
	noise := make([]byte, 3<<20)
	_, _ = rand.Read(noise)
	for name, size := range map[string]int{"spooling": 2, "writing": 1} {
		var files []file
		for i := range size * 2 {
			files = append(files, reg(itoa(int64(i)), string(noise[:len(noise)/2])))
		}
		_, err = c.Root(t.Context(), keyOf(name), layersOf(makeTar(t, files...)), nil)
		require.ErrorIs(t, err, ErrNoSpace, name)
		require.ErrorContains(t, err, dir)
		requireNothingLeft(t, c)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ballast"), noise, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "more"), noise[:1<<20-64<<10], 0o600))
	err = c.Scratch(t.Context(), filepath.Join(dir, "scratch"), 4096)
	require.ErrorIs(t, err, ErrNoSpace)
	require.ErrorContains(t, err, dir)
	require.NoFileExists(t, filepath.Join(dir, "scratch"))
}
