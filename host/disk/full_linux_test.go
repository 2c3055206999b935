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
	tar := func(halves int) []byte {
		var files []file
		for i := range halves {
			files = append(files, reg(itoa(int64(i)), string(noise[:len(noise)/2])))
		}
		return makeTar(t, files...)
	}
	// What is said is the same, whenever it shows: what is needed in all, and what
	// others see to be free.
	for name, tc := range map[string]struct {
		layers []Layer
		want   string
	}{
		"spooling":     {layersOf(tar(4)), "13 MiB needed to make the image's disk (6.0 MiB to unpack its layers, 7.0 MiB for the disk)"},
		"second layer": {layersOf(tar(2), tar(3)), "13 MiB needed to make the image's disk (7.5 MiB to unpack its layers, 5.5 MiB for the disk)"},
		"writing":      {layersOf(tar(2)), "7.0 MiB needed to make the image's disk (3.0 MiB to unpack its layers, 4.0 MiB for the disk)"},
		"known before": {sized(layersOf(tar(2)), 3<<20), "5.9 MiB needed at the least"},
	} {
		_, err = c.Root(t.Context(), keyOf(name), tc.layers, nil)
		require.ErrorIs(t, err, ErrNoSpace, name)
		require.ErrorContains(t, err, tc.want, name)
		require.ErrorContains(t, err, " in "+dir+", where 4.0 MiB are free: free ", name)
		requireNothingLeft(t, c)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ballast"), noise, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "more"), noise[:1<<20-64<<10], 0o600))
	err = c.Scratch(t.Context(), filepath.Join(dir, "scratch"), 4096)
	require.ErrorIs(t, err, ErrNoSpace)
	require.ErrorContains(t, err, dir)
	require.NoFileExists(t, filepath.Join(dir, "scratch"))
}

// sized are layers whose size is known, and which nobody may open.
func sized(layers []Layer, size int64) []Layer {
	for i := range layers {
		layers[i] = Layer{Size: size}
	}
	return layers
}
