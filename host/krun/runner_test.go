// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCheckRunner: waggle-krun is known by what it was built of, and for what.
func TestCheckRunner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	built := filepath.Join(dir, "waggle-krun")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", built, runnerPackage)
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, checkRunner(built, "linux", "arm64"))
	require.EqualError(t, checkRunner(built, "linux", "amd64"), "is for linux/arm64, this machine is linux/amd64")

	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, nil, 0o755))
	require.EqualError(t, checkRunner(text, "linux", "amd64"), "is not waggle-krun: it is no program of Go's")
	self, err := os.Executable()
	require.NoError(t, err)
	require.ErrorContains(t, checkRunner(self, "linux", "amd64"), "is not waggle-krun, but \"github.com/stacklok/waggle/host/krun")
	here := filepath.Join(dir, "here")
	build = exec.CommandContext(t.Context(), "go", "build", "-o", here, runnerPackage)
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	out, err = build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	path, err := FindRunner(here)
	require.NoError(t, err)
	require.Equal(t, here, path)
	_, err = FindRunner(text)
	require.ErrorIs(t, err, ErrUnfitRunner)
	require.ErrorContains(t, err, "set WAGGLE_KRUN to its path")
	_, err = FindRunner(dir)
	require.ErrorIs(t, err, ErrUnfitRunner)
	require.ErrorContains(t, err, dir+" is not a program")
}
