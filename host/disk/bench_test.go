// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

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
