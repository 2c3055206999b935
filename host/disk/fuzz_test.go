// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// FuzzRoot lays two hostile layers over an honest one. Whatever they hold, the
// build ends with a refusal or with a file system that e2fsck finds clean, and
// leaves nothing else.
func FuzzRoot(f *testing.F) {
	honest := makeTar(f, dir("usr/lib"), sym("lib", "usr/lib"), reg("usr/lib/a", "1"), hard("b", "usr/lib/a"), reg("d/x", "1"))
	for _, tc := range mergeCases {
		var tars [][]byte
		for _, l := range tc.layers {
			tars = append(tars, makeTar(f, l...))
		}
		tars = append(tars, honest)
		f.Add(tars[0], tars[1])
	}
	f.Add(makeTar(f, sym("d", "d"), reg("d/.wh..wh..opq", "")), makeTar(f, hard("d/y", "lib/a"), reg("../x", "")))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		c := openCache(t, Limits{Entries: 1000, Bytes: 1 << 20})
		path, err := c.Root(t.Context(), digest.FromString("k"), layersOf(honest, one, two), nil)
		if err != nil {
			requireNothingLeft(t, c)
			return
		}
		ext4{t, path}.check()
		left, err := filepath.Glob(filepath.Join(c.dir, buildPrefix+"*"))
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

// FuzzMerge is the merge alone and so reaches deeper in the same time: it
// never panics, and no name of the result leaves the root or is a whiteout.
func FuzzMerge(f *testing.F) {
	f.Add("d/a", byte(tar.TypeReg), "", ".wh.d", byte(tar.TypeReg), "")
	f.Add("l", byte(tar.TypeSymlink), "../..", "l/x", byte(tar.TypeReg), "")
	f.Add("l", byte(tar.TypeSymlink), "l", "l/.wh.x", byte(tar.TypeReg), "")
	f.Add("x", byte(tar.TypeLink), "usr/lib/a", "x/y", byte(tar.TypeDir), "")
	f.Fuzz(func(t *testing.T, n1 string, t1 byte, l1, n2 string, t2 byte, l2 string) {
		tr := newTree(DefaultLimits)
		for layer, hdr := range []*tar.Header{
			{Name: "usr/lib/a", Typeflag: tar.TypeReg},
			{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "usr/lib"},
			{Name: n1, Typeflag: t1, Linkname: l1},
			{Name: n2, Typeflag: t2, Linkname: l2},
		} {
			e, err := newEntry(hdr, layer, 0, DefaultLimits)
			if err != nil || e == nil {
				continue
			}
			if err := tr.apply([]*entry{e}); err != nil && !errors.Is(err, ErrBadLayer) {
				t.Fatal(err)
			}
		}
		checkNames(t, tr.root, 0)
	})
}

func checkNames(t *testing.T, n *node, depth int) {
	require.Less(t, depth, maxPath)
	for name, child := range n.children {
		require.NotContains(t, name, "/")
		require.NotContains(t, []string{"", ".", ".."}, name)
		require.LessOrEqual(t, len(name), maxName)
		checkNames(t, child, depth+1)
	}
}

// BenchmarkRoot builds the disk of a layer the size of a python image: 12,000
// files, 200 MB. WAGGLE_BENCH_TAR names a real tar to use in its place.
func BenchmarkRoot(b *testing.B) {
	path := os.Getenv("WAGGLE_BENCH_TAR")
	if path == "" {
		path = filepath.Join(b.TempDir(), "layer.tar")
		writeBenchTar(b, path)
	}
	st, err := os.Stat(path)
	require.NoError(b, err)
	layers := []Layer{{Open: func(context.Context) (io.ReadCloser, error) { return os.Open(path) }}}
	b.SetBytes(st.Size())
	for b.Loop() {
		_, err := openCache(b, Limits{}).Root(b.Context(), digest.FromString("k"), layers, nil)
		require.NoError(b, err)
	}
}

// BenchmarkScratch is the scratch disk of one more machine.
func BenchmarkScratch(b *testing.B) {
	c := openCache(b, Limits{})
	dir := b.TempDir()
	path := filepath.Join(dir, "scratch")
	require.NoError(b, c.Scratch(b.Context(), path, 4096))
	for b.Loop() {
		require.NoError(b, os.Remove(path))
		require.NoError(b, c.Scratch(b.Context(), path, 4096))
	}
}

func writeBenchTar(b *testing.B, path string) {
	f, err := os.Create(path)
	require.NoError(b, err)
	defer func() { require.NoError(b, f.Close()) }()
	w := tar.NewWriter(f)
	body := make([]byte, 200<<20/12_000)
	for i := range body {
		body[i] = byte(i*31 + i>>8)
	}
	for i := range 12_000 {
		name := "dir" + itoa(int64(i/100)) + "/file" + itoa(int64(i))
		require.NoError(b, w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644}))
		_, err := w.Write(body)
		require.NoError(b, err)
	}
	require.NoError(b, w.Close())
}
