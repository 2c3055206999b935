// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
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
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"))
	s, err := Open(dir)
	require.NoError(t, err)
	noise := make([]byte, 4<<20)
	_, _ = rand.Read(noise)
	_, err = s.ImportRootfs(t.Context(), bytes.NewReader(makeTar(t, map[string]string{"noise": string(noise)})), "big", "", Config{})
	require.ErrorIs(t, err, ErrNoSpace)
	require.ErrorContains(t, err, dir)
	require.Empty(t, files(t, s))
}
