// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeApt puts programs on PATH that answer like apt and dpkg-deb do for a
// package with one kernel and one module.
func fakeApt(t *testing.T, version string) {
	t.Helper()
	bin, tree := t.TempDir(), t.TempDir()
	image := filepath.Join(tree, "vmlinuz")
	plain := pvhELF(t)
	require.NoError(t, os.WriteFile(image, bzImage(withSize(lz4Legacy(t, plain), plain)), 0o644))
	ko := filepath.Join(tree, "one.ko")
	require.NoError(t, os.WriteFile(ko, koELF(t, "depends=\x00"), 0o644))
	for name, script := range map[string]string{
		"apt-cache": `case $1 in
show) printf 'Version: ` + version + `\nSHA256: abc\n' ;;
depends) [ "$4" = meta ] && echo '  Depends: linux-image-1.0' ;;
esac
exit 0`,
		"apt-get": `touch x.deb`,
		"dpkg-deb": `mkdir -p $3/boot $3/lib/modules/1.0
cp ` + image + ` $3/boot/vmlinuz-1.0
cp ` + ko + ` $3/lib/modules/1.0/`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
}

func TestPrepareCaches(t *testing.T) {
	out := t.TempDir()
	var steps []string
	opts := Options{
		Out: out, Arch: "amd64", Package: "meta", Modules: []string{"one"},
		Step: func(what string, _ time.Duration) { steps = append(steps, what) },
	}
	fakeApt(t, "1.0-1")
	first, err := Prepare(t.Context(), opts)
	require.NoError(t, err)
	require.Equal(t, "1.0", first.Version)
	require.Equal(t, "linux-image-1.0", first.Package)
	require.Equal(t, []string{"00-one.ko"}, first.Modules)
	require.FileExists(t, filepath.Join(out, currentName, "vmlinux"))
	require.FileExists(t, filepath.Join(out, currentName, "modules", "00-one.ko"))
	require.Contains(t, steps[1], "downloaded")

	steps = nil
	second, err := Prepare(t.Context(), opts)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Len(t, steps, 1, "nothing is downloaded twice: %v", steps)

	// Newer lists, newer package: another directory beside the first.
	require.NoError(t, os.Remove(filepath.Join(out, resolvedName)))
	fakeApt(t, "1.0-2")
	third, err := Prepare(t.Context(), opts)
	require.NoError(t, err)
	require.NotEqual(t, first.Dir, third.Dir)
	require.DirExists(t, first.Dir)
	target, err := os.Readlink(filepath.Join(out, currentName))
	require.NoError(t, err)
	require.Equal(t, filepath.Base(third.Dir), target)

	// Without apt, what is there has to do.
	require.NoError(t, os.Remove(filepath.Join(out, resolvedName)))
	t.Setenv("PATH", t.TempDir())
	offline, err := Prepare(t.Context(), opts)
	require.NoError(t, err)
	require.Equal(t, third.Dir, offline.Dir)

	left, err := filepath.Glob(filepath.Join(out, workPattern))
	require.NoError(t, err)
	require.Empty(t, left, "work directories are removed")
}

func TestPrepareErrors(t *testing.T) {
	t.Run("no apt", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := Prepare(t.Context(), Options{Out: t.TempDir(), Arch: "amd64"})
		require.ErrorContains(t, err, "apt-cache is not installed")
		require.ErrorContains(t, err, "WAGGLE_KERNEL")
	})
	t.Run("architecture", func(t *testing.T) {
		_, err := Prepare(t.Context(), Options{Out: t.TempDir(), Arch: "riscv64"})
		require.ErrorContains(t, err, "riscv64")
	})
	t.Run("download fails", func(t *testing.T) {
		fakeApt(t, "1.0-1")
		bin := t.TempDir()
		script := []byte("#!/bin/sh\necho 'E: no route' >&2\nexit 100\n")
		require.NoError(t, os.WriteFile(filepath.Join(bin, "apt-get"), script, 0o755))
		t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		out := t.TempDir()
		_, err := Prepare(t.Context(), Options{Out: out, Arch: "amd64", Package: "meta"})
		require.ErrorContains(t, err, "E: no route")
		require.NoFileExists(t, filepath.Join(out, currentName))
	})
	t.Run("module missing", func(t *testing.T) {
		fakeApt(t, "1.0-1")
		_, err := Prepare(t.Context(), Options{
			Out: t.TempDir(), Arch: "amd64", Package: "meta", Modules: []string{"other"},
		})
		require.ErrorContains(t, err, "no module other")
	})
}
