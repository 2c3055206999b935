// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFindRunner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := FindRunner(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, ErrNoRunner)
	require.ErrorContains(t, err, "set WAGGLE_KRUN to its path")
	_, err = FindRunner(dir)
	require.ErrorContains(t, err, "is not a program")
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	_, err = FindRunner(file)
	require.ErrorContains(t, err, "is not a program")
	require.NoError(t, os.Chmod(file, 0o755))
	_, err = FindRunner(file)
	require.ErrorIs(t, err, ErrUnfitRunner, "a foreign file")
	_, err = FindRunner("") // there is none beside the test
	require.ErrorIs(t, err, ErrNoRunner)
	require.ErrorContains(t, err, "task build")
}

func TestNewErrors(t *testing.T) {
	t.Parallel()
	_, err := New(Config{LibDir: t.TempDir()})
	require.ErrorIs(t, err, ErrNoLibrary)
	if runtime.GOOS != "linux" {
		return
	}
	_, err = hypervisor(filepath.Join(t.TempDir(), "kvm"))
	require.ErrorContains(t, err, "modprobe kvm_intel")
	device, err := hypervisor("/dev/null")
	require.NoError(t, err)
	require.Equal(t, "/dev/null", device, "a test's own device is not asked whether it is KVM")
}
