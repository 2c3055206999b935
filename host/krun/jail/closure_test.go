// SPDX-License-Identifier: Apache-2.0

//go:build linux

package jail

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun/spec"
)

// system returns a library of this system.
func system(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range spec.LibraryDirs(runtime.GOARCH) {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	require.FailNow(t, "no "+name)
	return ""
}

// TestResolve works on the libraries of this system: what the loader would load.
func TestResolve(t *testing.T) {
	t.Parallel()
	dirs := spec.LibraryDirs(runtime.GOARCH)
	c, err := resolve("/usr/bin/env", []string{system(t, "libm.so.6")}, dirs)
	require.NoError(t, err)
	require.Regexp(t, `^/lib.*/ld-linux`, c.interp)
	require.Equal(t, "libm.so.6", c.libs[0].soname, "what was asked for comes first")
	libc, ok := c.find("libc.so.6")
	require.True(t, ok)
	require.FileExists(t, libc)
	_, ok = c.find("libkrun.so.1")
	require.False(t, ok)

	// A library is named by its soname, whatever the file is called, and finds what
	// it needs beside itself first.
	dir := t.TempDir()
	copied := filepath.Join(dir, "renamed")
	for from, to := range map[string]string{system(t, "libm.so.6"): copied, libc: filepath.Join(dir, "libc.so.6")} {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, data, 0o755))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	c, err = resolve(copied, []string{copied}, dirs)
	require.NoError(t, err)
	require.Equal(t, object{"libm.so.6", copied}, c.libs[0])
	libc, _ = c.find("libc.so.6")
	require.Equal(t, filepath.Join(dir, "libc.so.6"), libc)
	_, err = resolve(self, nil, dirs)
	require.NoError(t, err)

	require.NoError(t, os.Remove(libc))
	_, err = resolve(copied, nil, []string{t.TempDir()})
	require.ErrorIs(t, err, errMissingLibrary)
	require.ErrorContains(t, err, copied+" needs libc.so.6, which is not in "+dir)
	require.ErrorContains(t, err, "set LD_LIBRARY_PATH")
	// A library of that name for another machine is passed over.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "libc.so.6"), []byte("\x7fELF nonsense"), 0o755))
	_, err = resolve(copied, nil, nil)
	require.ErrorIs(t, err, errMissingLibrary)
	_, err = resolve("/none", nil, nil)
	require.ErrorContains(t, err, "read /none")
}
