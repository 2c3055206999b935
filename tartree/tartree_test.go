// SPDX-License-Identifier: Apache-2.0

package tartree_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/tartree"
)

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root
}

var then = time.Date(2001, 2, 3, 4, 5, 6, 789_000_000, time.UTC)

// sample makes a tree with one of everything that is kept.
func sample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string, mode fs.FileMode) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		require.NoError(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	write("a/file", "content", 0o640)
	write("a/empty", "", 0o444)
	write("a/"+strings.Repeat("long", 40)+"/"+strings.Repeat("name", 40), "x", 0o755)
	write("grüße\nline", "odd name", 0o600)
	require.NoError(t, os.Symlink("../nowhere", filepath.Join(dir, "a/link")))
	old := unix.NsecToTimeval(then.UnixNano())
	require.NoError(t, unix.Lutimes(filepath.Join(dir, "a/link"), []unix.Timeval{old, old}))
	require.NoError(t, os.Link(filepath.Join(dir, "a/file"), filepath.Join(dir, "hard")))
	holes, err := os.Create(filepath.Join(dir, "holes"))
	require.NoError(t, err)
	for _, at := range []int64{1 << 20, 5<<20 + 4096} {
		_, err := holes.WriteAt(bytes.Repeat([]byte("data"), 2048), at)
		require.NoError(t, err)
	}
	require.NoError(t, holes.Truncate(8<<20))
	require.NoError(t, holes.Close())
	require.NoError(t, os.Truncate(writeEmpty(t, dir, "hollow"), 1<<20))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "closed"), 0o755))
	write("closed/in", "below", 0o600)
	require.NoError(t, os.Chmod(filepath.Join(dir, "closed"), 0o555))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "closed"), 0o755) })
	for _, name := range []string{"a/file", "holes", "closed", "a"} {
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), then, then))
	}
	return dir
}

func writeEmpty(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	return path
}

// describe is all of a tree that must survive, line by line.
func describe(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		line := fmt.Sprintf("%q %s", rel, info.Mode())
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			line += fmt.Sprintf(" %d links %d bytes %x", info.Sys().(*syscall.Stat_t).Nlink, info.Size(), bytes.Count(data, []byte("data")))
			line += " " + info.ModTime().UTC().String()
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			require.NoError(t, err)
			line += " to " + target + " " + info.ModTime().UTC().String()
		case info.IsDir() && rel != ".":
			line += " " + info.ModTime().UTC().String()
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var archive bytes.Buffer
	res, err := tartree.Pack(t.Context(), openRoot(t, dir), ".", "", &archive)
	require.NoError(t, err)
	require.Zero(t, res.Changed)
	return archive.Bytes()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	from, to := sample(t), t.TempDir()
	archive := pack(t, from)
	require.Less(t, len(archive), 200<<10, "holes do not travel")
	res, err := tartree.Unpack(t.Context(), openRoot(t, to), bytes.NewReader(archive), tartree.Options{})
	require.NoError(t, err)
	require.Equal(t, describe(t, from), describe(t, to))
	require.NotZero(t, res.Entries)
	for _, name := range []string{"holes", "hollow"} {
		info, err := os.Stat(filepath.Join(to, name))
		require.NoError(t, err)
		require.Less(t, info.Sys().(*syscall.Stat_t).Blocks*512, int64(64<<10), "%s has lost its holes", name)
	}
	require.NoError(t, os.Chmod(filepath.Join(to, "closed"), 0o755))
}

// TestGNUTar: GNU tar reads what is packed, and what it packs is unpacked.
func TestGNUTar(t *testing.T) {
	t.Parallel()
	from, theirs, ours := sample(t), t.TempDir(), t.TempDir()
	tarCmd := func(stdin []byte, args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), "tar", args...)
		cmd.Stdin = bytes.NewReader(stdin)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		require.NoError(t, cmd.Run(), "%v: %s", args, errOut.String())
		return out.Bytes()
	}
	tarCmd(pack(t, from), "-x", "-C", theirs)
	require.Equal(t, describe(t, from), describe(t, theirs))
	for _, format := range []string{"pax", "gnu"} {
		archive := tarCmd(nil, "-c", "--sparse", "--format="+format, "-C", from, ".")
		to := filepath.Join(ours, format)
		require.NoError(t, os.Mkdir(to, 0o755))
		_, err := tartree.Unpack(t.Context(), openRoot(t, to), bytes.NewReader(archive), tartree.Options{})
		require.NoError(t, err)
		if format == "pax" { // the other keeps whole seconds only
			require.Equal(t, describe(t, from), describe(t, to))
		}
		require.NoError(t, os.Chmod(filepath.Join(to, "closed"), 0o755))
	}
	require.NoError(t, os.Chmod(filepath.Join(theirs, "closed"), 0o755))
}

// TestHostile: no archive writes outside its directory.
func TestHostile(t *testing.T) {
	t.Parallel()
	type entry struct {
		header tar.Header
		body   string
	}
	file := func(name string) entry {
		return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o4755, Size: 4}, "evil"}
	}
	for name, entries := range map[string][]entry{
		"absolute":             {file("/tmp/x")},
		"dot dot":              {file("../outside")},
		"hidden dot dot":       {file("a/../../outside")},
		"through a link":       {{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, ""}, file("l/outside")},
		"through an absolute":  {{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/"}, ""}, file("l/outside")},
		"directory on a link":  {{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, ""}, {tar.Header{Name: "l/outside/", Typeflag: tar.TypeDir}, ""}},
		"hard link to outside": {{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../secret"}, ""}},
		"hard link by a link":  {{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, ""}, {tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "l/secret"}, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(base, "secret"), []byte("secret"), 0o600))
			dir := filepath.Join(base, "dir")
			require.NoError(t, os.Mkdir(dir, 0o755))
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			for _, e := range entries {
				require.NoError(t, w.WriteHeader(&e.header))
				_, err := io.WriteString(w, e.body)
				require.NoError(t, err)
			}
			require.NoError(t, w.Close())
			_, err := tartree.Unpack(t.Context(), openRoot(t, dir), &archive, tartree.Options{})
			require.Error(t, err)
			outside, err := os.ReadDir(base)
			require.NoError(t, err)
			require.Len(t, outside, 2)
			info, err := os.Stat(filepath.Join(base, "secret"))
			require.NoError(t, err)
			require.EqualValues(t, 1, info.Sys().(*syscall.Stat_t).Nlink)
		})
	}
}

// TestReplace: what is in the way is replaced, never written through.
func TestReplace(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	secret := filepath.Join(base, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	dir := filepath.Join(base, "dir")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.Link(secret, filepath.Join(dir, "hard")))
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "soft")))
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, name := range []string{"hard", "soft"} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o6755, Size: 3}))
		_, err := io.WriteString(w, "new")
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	_, err := tartree.Unpack(t.Context(), openRoot(t, dir), &archive, tartree.Options{})
	require.NoError(t, err)
	data, err := os.ReadFile(secret)
	require.NoError(t, err)
	require.Equal(t, "secret", string(data))
	info, err := os.Lstat(filepath.Join(dir, "soft"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), info.Mode(), "setuid comes with Owners only")
}

// TestCutShort: an archive that breaks off leaves the old file, and nothing beside it.
func TestCutShort(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		require.NoError(t, os.WriteFile(filepath.Join(from, name), bytes.Repeat([]byte("new"), 1<<20), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(to, name), []byte("old"), 0o640))
	}
	archive := pack(t, from)
	_, err := tartree.Unpack(t.Context(), openRoot(t, to), bytes.NewReader(archive[:len(archive)/2]), tartree.Options{})
	require.Error(t, err)
	cut := &cancelled{r: bytes.NewReader(archive), after: len(archive) / 2}
	ctx, cancel := context.WithCancel(t.Context())
	cut.cancel = cancel
	_, err = tartree.Unpack(ctx, openRoot(t, to), cut, tartree.Options{})
	require.ErrorIs(t, err, context.Canceled)
	left, err := os.ReadDir(to)
	require.NoError(t, err)
	require.Len(t, left, 3)
	data, err := os.ReadFile(filepath.Join(to, "a"))
	require.NoError(t, err)
	require.Len(t, data, 3<<20, "the first one was whole")
	for _, name := range []string{"b", "c"} {
		data, err := os.ReadFile(filepath.Join(to, name))
		require.NoError(t, err)
		require.Equal(t, "old", string(data), name)
	}
}

// cancelled is a reader in the middle of which the context ends.
type cancelled struct {
	r      io.Reader
	after  int
	cancel func()
}

func (c *cancelled) Read(p []byte) (int, error) {
	n, err := c.r.Read(p[:min(len(p), 64<<10)])
	if c.after -= n; c.after <= 0 {
		c.cancel()
	}
	return n, err
}

// TestTooDeep: what cannot be packed is noted by name, and the rest is packed.
func TestTooDeep(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(from, "a"+strings.Repeat("/d", 520)), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(from, "b"), []byte("new"), 0o600))
	var archive bytes.Buffer
	res, err := tartree.Pack(t.Context(), openRoot(t, from), ".", "", &archive)
	require.NoError(t, err)
	require.EqualValues(t, 1, res.Unreadable)
	require.Len(t, res.Failures, 1)
	require.Equal(t, "a"+strings.Repeat("/d", 512), res.Failures[0].Name)
	_, err = tartree.Unpack(t.Context(), openRoot(t, to), &archive, tartree.Options{})
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(to, "b"))
}

// TestInTheWay: an empty directory gives way to a file, one that holds something does
// not.
func TestInTheWay(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(from, "x"), []byte("new"), 0o600))
	archive := pack(t, from)
	require.NoError(t, os.MkdirAll(filepath.Join(to, "x", "full"), 0o755))
	_, err := tartree.Unpack(t.Context(), openRoot(t, to), bytes.NewReader(archive), tartree.Options{})
	require.ErrorContains(t, err, "x: directory not empty")
	require.NoError(t, os.Remove(filepath.Join(to, "x", "full")))
	_, err = tartree.Unpack(t.Context(), openRoot(t, to), bytes.NewReader(archive), tartree.Options{})
	require.NoError(t, err)
	left, err := os.ReadDir(to)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.True(t, left[0].Type().IsRegular())
}

// FuzzUnpack holds that no archive panics or escapes.
func FuzzUnpack(f *testing.F) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	_ = w.WriteHeader(&tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Size: 3, PAXRecords: map[string]string{"a.b": "c"}})
	_, _ = w.Write([]byte("abc"))
	_ = w.WriteHeader(&tar.Header{Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "../.."})
	_ = w.Close()
	f.Add(archive.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		dir := filepath.Join(base, "dir")
		require.NoError(t, os.Mkdir(dir, 0o755))
		root, err := os.OpenRoot(dir)
		require.NoError(t, err)
		defer func() { _ = root.Close() }()
		_, _ = tartree.Unpack(t.Context(), root, bytes.NewReader(data), tartree.Options{})
		left, err := os.ReadDir(base)
		require.NoError(t, err)
		require.Len(t, left, 1)
	})
}
