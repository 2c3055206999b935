// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHostBounds: a machine is not given what this host does not have.
func TestHostBounds(t *testing.T) {
	t.Parallel()
	require.NoError(t, checkCPUs(1, 1))
	require.NoError(t, checkCPUs(8, 2))
	require.EqualError(t, checkCPUs(9, 2), "WAGGLE_DEFAULT_CPUS (--cpus) is 9: give 1 to 8, 4 for each of the 2 CPUs of this host")
	require.NoError(t, checkCPUs(255, 128))
	require.EqualError(t, checkCPUs(256, 128), "WAGGLE_DEFAULT_CPUS (--cpus) is 256: give 1 to 255")

	dir := t.TempDir()
	file := filepath.Join(dir, "meminfo")
	require.NoError(t, os.WriteFile(file, []byte("MemTotal:  2097152 kB\nMemAvailable:  1048576 kB\n"), 0o600))
	require.NoError(t, checkMemoryMB(2048, file))
	require.EqualError(t, checkMemoryMB(2049, file),
		"WAGGLE_DEFAULT_MEMORY_MB (--memory-mb) is 2049: give 128 to 2048, which is all the memory of this host")
	require.NoError(t, checkMemoryMB(2049, filepath.Join(dir, "none")), "nothing is known")
	require.ErrorContains(t, checkMemoryMB(maxMemoryMB+1, filepath.Join(dir, "none")), "give 128 to ")
}

// TestMaxSize: what a caller may ask for is bounded by the host where no setting says it.
func TestMaxSize(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "meminfo")
	require.NoError(t, os.WriteFile(file, []byte("MemTotal:  8388608 kB\n"), 0o600))
	cpus, memory := (&serverFlags{}).maxSize(4, file)
	require.EqualValues(t, 4, cpus)
	require.EqualValues(t, 4096, memory)
	cpus, memory = (&serverFlags{MaxCPUs: 2, MaxMemoryMB: 1024}).maxSize(4, file)
	require.EqualValues(t, 2, cpus)
	require.EqualValues(t, 1024, memory)
}
