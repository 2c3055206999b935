// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

func itoa(n int64) string          { return strconv.FormatInt(n, 10) }
func baseOf(path string) string    { return filepath.Base(path) }
func keyOf(s string) digest.Digest { return digest.FromString(s) }

func TestRootIsBuiltOnce(t *testing.T) {
	t.Parallel()
	raw := makeTar(t, reg("a", strings.Repeat("x", 100_000)))
	var opened atomic.Int32
	layers := []Layer{{Open: func(context.Context) (io.ReadCloser, error) {
		opened.Add(1)
		return io.NopCloser(bytes.NewReader(raw)), nil
	}}}
	dir := t.TempDir()
	var wg sync.WaitGroup
	paths := make([]string, 10)
	for i := range paths {
		wg.Go(func() {
			c, err := Open(dir, Limits{}) // a handle of its own, as another process has
			if err == nil {
				paths[i], err = c.Root(t.Context(), keyOf("k"), layers, nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, opened.Load())
	for _, p := range paths {
		require.Equal(t, paths[0], p)
	}
	st, err := os.Stat(paths[0])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o444), st.Mode().Perm())
}

// TestRootAfterRemoval: somebody clears what is a cache under a server.
func TestRootAfterRemoval(t *testing.T) {
	t.Parallel()
	layers := layersOf(makeTar(t, reg("a", "text")))
	dir := filepath.Join(t.TempDir(), "disks")
	c, err := Open(dir, Limits{})
	require.NoError(t, err)
	for range 2 {
		path, err := c.Root(t.Context(), keyOf("k"), layers, nil)
		require.NoError(t, err)
		require.FileExists(t, path)
		require.NoError(t, os.RemoveAll(dir))
	}
	require.NoError(t, c.Scratch(t.Context(), filepath.Join(filepath.Dir(dir), "s.ext4"), 32))
}

func TestRootAfterACrash(t *testing.T) {
	t.Parallel()
	c := openCache(t, Limits{})
	path, err := c.rootPath(keyOf("k"))
	require.NoError(t, err)
	left := filepath.Join(c.dir, buildPrefix+filepath.Base(path)+"-123")
	require.NoError(t, os.WriteFile(left, []byte("half"), 0o600))
	_, err = c.Root(t.Context(), keyOf("k"), layersOf(makeTar(t, reg("a", "1"))), nil)
	require.NoError(t, err)
	require.NoFileExists(t, left)
	infos, err := c.List()
	require.NoError(t, err)
	require.Len(t, infos, 1, "what is unfinished is no disk")
}

// TestRootWaits: it is said that another builds the same disk when one does.
func TestRootWaits(t *testing.T) {
	t.Parallel()
	c := openCache(t, Limits{})
	layers := layersOf(makeTar(t, reg("a", "1")))
	path, err := c.rootPath(keyOf("busy"))
	require.NoError(t, err)
	var phases []Phase
	note := func(p Progress) { phases = append(phases, p.Phase) }
	_, err = c.Root(t.Context(), keyOf("free"), layers, note)
	require.NoError(t, err)
	require.Equal(t, PhaseRead, phases[0])

	unlock, err := c.lock(t.Context(), filepath.Base(path), nil)
	require.NoError(t, err)
	phases = nil
	_, err = c.Root(t.Context(), keyOf("busy"), layers, func(p Progress) {
		if note(p); p.Phase == PhaseWait {
			unlock()
		}
	})
	require.NoError(t, err)
	require.Equal(t, PhaseWait, phases[0])
}

func TestListAndRemove(t *testing.T) {
	t.Parallel()
	c := openCache(t, Limits{})
	raw := layersOf(makeTar(t, reg("a", "1")))
	for _, k := range []string{"one", "two"} {
		_, err := c.Root(t.Context(), keyOf(k), raw, nil)
		require.NoError(t, err)
	}
	_, err := c.Root(t.Context(), keyOf("one"), nil, nil)
	require.NoError(t, err, "from the cache")
	infos, err := c.List()
	require.NoError(t, err)
	require.Len(t, infos, 2)
	require.Equal(t, keyOf("two"), infos[0].Key, "the longest unused first")
	require.Positive(t, infos[0].Allocated)
	require.NoError(t, c.Remove(t.Context(), keyOf("two")))
	require.ErrorIs(t, c.Remove(t.Context(), keyOf("two")), ErrNotFound)
	infos, err = c.List()
	require.NoError(t, err)
	require.Len(t, infos, 1)
}

func TestRootCancelledAndFailing(t *testing.T) {
	t.Parallel()
	c := openCache(t, Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	layers := []Layer{{Open: func(context.Context) (io.ReadCloser, error) {
		cancel()
		return io.NopCloser(bytes.NewReader(makeTar(t, reg("a", "1")))), nil
	}}}
	_, err := c.Root(ctx, keyOf("k"), layers, nil)
	require.ErrorIs(t, err, context.Canceled)
	requireNothingLeft(t, c)

	broken := errors.New("digest does not fit")
	layers[0].Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(makeTar(t, reg("a", "1"))), errReader{broken})), nil
	}
	_, err = c.Root(t.Context(), keyOf("k"), layers, nil)
	require.ErrorIs(t, err, broken, "an error after the end of the tar counts")
	requireNothingLeft(t, c)

	_, err = c.Root(t.Context(), "sha256:../../x", layers, nil)
	require.ErrorContains(t, err, "disk key")
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestScratch(t *testing.T) {
	t.Parallel()
	c := openCache(t, Limits{})
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		path := filepath.Join(dir, name)
		require.NoError(t, c.Scratch(t.Context(), path, 4096))
		st, err := os.Stat(path)
		require.NoError(t, err)
		require.EqualValues(t, 4096<<20, st.Size())
		require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
		require.Less(t, st.Sys().(*syscall.Stat_t).Blocks*512, int64(300<<10), "sparse")
		img := ext4{t, path}
		img.check()
		require.NotContains(t, img.debugfs("features"), "has_journal")
	}
	require.Error(t, c.Scratch(t.Context(), filepath.Join(dir, "one"), 4096), "an existing file stays")
	require.ErrorContains(t, c.Scratch(t.Context(), filepath.Join(dir, "x"), 0), "choose a size")
	require.NoFileExists(t, filepath.Join(dir, "x"))
	infos, err := c.List()
	require.NoError(t, err)
	require.Empty(t, infos, "templates are no root disks")
}

func TestScratchCopiesData(t *testing.T) {
	t.Parallel()
	// What is written into a template, holes between, arrives in the copy.
	dir := t.TempDir()
	src, err := os.Create(filepath.Join(dir, "src"))
	require.NoError(t, err)
	defer func() { require.NoError(t, src.Close()) }()
	require.NoError(t, src.Truncate(64<<20))
	block := make([]byte, 10_000)
	_, _ = rand.Read(block)
	for _, off := range []int64{0, 5 << 20, 64<<20 - 10_000} {
		_, err := src.WriteAt(block, off)
		require.NoError(t, err)
	}
	require.NoError(t, cloneSparse(t.Context(), filepath.Join(dir, "dst"), src.Name()))
	want, err := os.ReadFile(src.Name())
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(dir, "dst"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

func TestNoMkfs(t *testing.T) {
	require.ErrorContains(t, ErrNoMkfs, "apt-get install -y e2fsprogs")
	t.Setenv("PATH", "/nonexistent")
	path, err := findMkfs()
	require.NoError(t, err, "found beside the PATH of ordinary users")
	require.FileExists(t, path)
}
