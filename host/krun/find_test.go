// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun/spec"
)

func TestVersionOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/usr/lib64/libkrun.so.1.17.3":                            "1.17.3",
		"/usr/lib64/libkrunfw.so.5.2.0":                           "5.2.0",
		"/opt/x/libkrun.1.18.0.dylib":                             "1.18.0",
		"/opt/homebrew/Cellar/libkrun/1.17.4_1/lib/libkrun.dylib": "1.17.4",
		"/bundle/libkrun.so.1":                                    "",
		"/usr/lib/libkrun.so.1.17.3.bak":                          "",
	} {
		require.Equal(t, want, versionOf(path), path)
	}
	require.Negative(t, compareVersions("1.9.10", "1.17.3"))
	require.Negative(t, compareVersions("1.17", "1.17.3"))
	require.Positive(t, compareVersions("2.0.0", "1.17.3"))
	require.Zero(t, compareVersions("1.17.3", "1.17.3"))
}

func TestJudge(t *testing.T) {
	t.Parallel()
	all := map[string]bool{spec.FeatureSymbol: true}
	for _, s := range slices.Concat(spec.CoreSymbols, spec.BlockSymbols, spec.NetSymbols) {
		all[s] = true
	}
	with := func(add string, without ...string) map[string]bool {
		m := maps.Clone(all)
		m[add] = true
		for _, s := range without {
			delete(m, s)
		}
		return m
	}
	for _, tt := range []struct {
		name    string
		symbols map[string]bool
		atLeast string
		want    string
	}{
		{"1.17.3", all, "1.17.3", ""},
		{"1.18", with("krun_add_virtiofs3"), "1.18.0", ""},
		{"1.19", with("krun_disable_implicit_init"), "1.19.0", ""},
		{"too old", with("x", "krun_has_feature"), "", "too old: 1.17.3 or later"},
		{"no disks", with("x", "krun_add_disk2"), "1.17.3", "build libkrun with BLK=1"},
		{"no network", with("x", "krun_add_net_unixstream"), "1.17.3", "build libkrun with NET=1"},
		{"no vsock", with("x", "krun_add_vsock"), "1.17.3", "no krun_add_vsock: install"},
		{"another library", map[string]bool{"malloc": true}, "", "not libkrun"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			atLeast, err := judge(tt.symbols)
			require.Equal(t, tt.atLeast, atLeast)
			if tt.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tt.want)
			}
		})
	}
}

func TestLibraryDirs(t *testing.T) {
	t.Parallel()
	env := func(name string) string {
		return map[string]string{"LD_LIBRARY_PATH": "/a::relative:/usr/lib", "DYLD_LIBRARY_PATH": "/d"}[name]
	}
	dirs := libraryDirs("linux", "amd64", "/opt/waggle/bin/waggle", env)
	require.Equal(t, []string{"/opt/waggle/bin", "/opt/waggle/lib64", "/opt/waggle/lib", "/a", "/usr/lib"}, dirs[:5])
	require.Contains(t, dirs, "/usr/lib/x86_64-linux-gnu")
	require.NotContains(t, dirs, "relative")
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(dirs))), len(dirs), "each once")
	mac := libraryDirs("darwin", "arm64", "", env)
	require.Equal(t, "/d", mac[0])
	require.Contains(t, mac, "/opt/homebrew/lib")
	require.NotContains(t, mac, "/usr/lib64")
}

// TestFind works on empty files: what a library holds is judge's.
func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	libs := filepath.Join(dir, "lib64")
	require.NoError(t, os.Mkdir(libs, 0o755))
	write := func(name string) {
		require.NoError(t, os.WriteFile(filepath.Join(libs, name), nil, 0o644))
	}
	link := func(to, name string) { require.NoError(t, os.Symlink(to, filepath.Join(libs, name))) }

	_, err := Find(dir)
	require.ErrorIs(t, err, ErrNoLibrary)
	require.ErrorContains(t, err, libs, "says where it looked")
	require.ErrorContains(t, err, "WAGGLE_KRUN_LIB_DIR")

	link("libkrun.so.1.16.0", "libkrun.so.1")
	_, err = Find(dir)
	require.ErrorIs(t, err, ErrNoLibrary, "a dangling link is no library")
	write("libkrun.so.1.16.0")
	l, err := Find(dir)
	require.ErrorIs(t, err, ErrNoFirmware)
	require.Equal(t, filepath.Join(libs, "libkrun.so.1"), l.Krun.Path)
	require.Equal(t, "1.16.0", l.Krun.Version)

	write("libkrunfw.so.5.2.0")
	link("libkrunfw.so.5.2.0", "libkrunfw.so.5")
	l, err = Find(dir)
	require.ErrorIs(t, err, ErrUnfit)
	require.ErrorContains(t, err, "version 1.16.0 is too old: 1.17.3")
	require.Equal(t, "5.2.0", l.Firmware.Version)

	require.NoError(t, os.Remove(filepath.Join(libs, "libkrun.so.1")))
	write("libkrun.so.1")
	_, err = Find(dir)
	require.ErrorIs(t, err, ErrUnfit)
	require.ErrorIs(t, err, ErrUnfitFirmware, "each is looked at")
	require.ErrorContains(t, err, "read library: it is none, or cut off")
	require.NoError(t, os.Chmod(filepath.Join(libs, "libkrunfw.so.5.2.0"), 0))
	l, err = Find(dir)
	var access *AccessError
	require.ErrorAs(t, err, &access)
	require.ErrorAs(t, l.Firmware.Err, &access)
	require.False(t, errors.As(l.Krun.Err, &access))
	require.Contains(t, access.Remedy(), "chmod a+r "+filepath.Join(libs, "libkrunfw.so.5.2.0"))
	require.NoError(t, os.Chmod(filepath.Join(libs, "libkrunfw.so.5.2.0"), 0o644))

	// The names of macOS.
	write("libkrun.1.17.4.dylib")
	link("libkrun.1.17.4.dylib", "libkrun.dylib")
	write("libkrunfw.5.dylib")
	l, err = find([]string{dir, libs}, "darwin")
	require.NoError(t, err)
	require.Equal(t, "1.17.4", l.Krun.Version)
	require.Empty(t, l.Firmware.Version)
}
