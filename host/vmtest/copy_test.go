// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCopy takes trees into a machine and out again: nothing of what a tree is
// may be lost on the way.
func TestCopy(t *testing.T) {
	in := Install(t)
	var env environment
	in.Serve(t).Connect(t).Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	defer in.Command(t, "rm", env.ID)
	t.Run("tree", func(t *testing.T) { copyTree(t, in, env.ID) })
	t.Run("holes", func(t *testing.T) { copyHoles(t, in, env.ID) })
	t.Run("files and streams", func(t *testing.T) { copyFiles(t, in, env.ID) })
}

func copyTree(t *testing.T, in *Installation, env string) {
	files := 1000
	if os.Getenv("WAGGLE_SOAK") != "" {
		files = 10_000
	}
	from, to := filepath.Join(t.TempDir(), "tree"), t.TempDir()
	makeTree(t, from, files)
	begun := time.Now()
	in.Command(t, "cp", from, env+":/home/sandbox")
	went := time.Since(begun)
	out := in.Command(t, "exec", env, "--", "sh", "-c", "find tree -type f | wc -l; stat -c '%u %a' tree/d0/f0; readlink tree/link; stat -c %h tree/hard")
	require.Equal(t, fmt.Sprintf("%d\n1000 644\nd0/f0\n2\n", files+2), out)
	begun = time.Now()
	in.Command(t, "cp", env+":tree", to)
	t.Logf("%d files: in after %s, out after %s", files, went, time.Since(begun))
	require.Equal(t, describeTree(t, from), describeTree(t, filepath.Join(to, "tree")))
}

// makeTree makes n files of up to 4 KiB, and one of each kind of link.
func makeTree(t *testing.T, dir string, n int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, 4096)
	for i := range content {
		content[i] = byte(rnd.Uint32())
	}
	for i := range n {
		at := filepath.Join(dir, fmt.Sprintf("d%d", i/100), fmt.Sprintf("f%d", i%100))
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
		require.NoError(t, os.WriteFile(at, content[rnd.IntN(len(content)):], 0o644))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "script"), []byte("#!/bin/sh\n"), 0o750))
	require.NoError(t, os.Symlink("d0/f0", filepath.Join(dir, "link")))
	require.NoError(t, os.Link(filepath.Join(dir, "script"), filepath.Join(dir, "hard")))
	old := time.Date(2001, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	require.NoError(t, os.Chtimes(filepath.Join(dir, "d0"), old, old))
}

func describeTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		line := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			line += fmt.Sprintf(" %x %d %s", sha256.Sum256(data), info.Sys().(*syscall.Stat_t).Nlink, info.ModTime().UTC())
		case d.Type() == fs.ModeSymlink:
			line, err = os.Readlink(path)
			require.NoError(t, err)
		default:
			line += " " + info.ModTime().UTC().String()
		}
		rel, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		all[rel] = line
		return nil
	}))
	return all
}

// copyHoles takes a file of 8 GiB (1 GiB in the gate) with 4 MiB of data there
// and back: what moves is the data.
func copyHoles(t *testing.T, in *Installation, env string) {
	size := int64(1 << 30)
	if os.Getenv("WAGGLE_SOAK") != "" {
		size = 8 << 30
	}
	name := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(name)
	require.NoError(t, err)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	for i := range int64(4) {
		_, err := f.WriteAt(data, i*size/4)
		require.NoError(t, err)
	}
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
	begun := time.Now()
	in.Command(t, "cp", name, env+":sparse")
	went := time.Since(begun)
	out := strings.Fields(in.Command(t, "exec", env, "stat", "-c", "%s %b", "sparse"))
	require.Equal(t, fmt.Sprint(size), out[0])
	require.Less(t, atoi(t, out[1])*512, 8<<20, "bytes on the machine's disk")
	archive, _, code := in.cli(t, "", "cp", "--tar", env+":sparse", "-")
	require.Zero(t, code)
	require.Less(t, len(archive), 16<<20, "bytes that moved")
	begun = time.Now()
	back := filepath.Join(t.TempDir(), "back")
	in.Command(t, "cp", env+":sparse", back)
	t.Logf("%d bytes with 4 MiB of data: in after %s, out after %s", size, went, time.Since(begun))
	info, err := os.Stat(back)
	require.NoError(t, err)
	require.Equal(t, size, info.Size())
	require.Less(t, info.Sys().(*syscall.Stat_t).Blocks*512, int64(8<<20), "bytes on this disk")
	b, err := os.Open(back)
	require.NoError(t, err)
	defer func() { _ = b.Close() }()
	got := make([]byte, len(data)+4096)
	_, err = b.ReadAt(got, size/2-4096)
	require.NoError(t, err)
	require.True(t, bytes.Equal(append(make([]byte, 4096), data...), got))
	in.Command(t, "exec", env, "rm", "sparse")
}

func atoi(t *testing.T, s string) (n int) {
	t.Helper()
	_, err := fmt.Sscan(s, &n)
	require.NoError(t, err)
	return n
}

func copyFiles(t *testing.T, in *Installation, env string) {
	dir := t.TempDir()
	name := filepath.Join(dir, "one")
	require.NoError(t, os.WriteFile(name, []byte("content"), 0o600))
	in.Command(t, "cp", name, env+":other")        // under another name
	in.Command(t, "cp", name, env+":/tmp")         // into a directory
	in.Command(t, "cp", name, env+":new/dir/file") // with its parents
	require.Equal(t, "contentcontentcontent", in.Command(t, "exec", env, "cat", "other", "/tmp/one", "new/dir/file"))
	in.Command(t, "cp", env+":other", filepath.Join(dir, "back"))
	data, err := os.ReadFile(filepath.Join(dir, "back"))
	require.NoError(t, err)
	require.Equal(t, "content", string(data))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "something was left beside the file")

	_, errOut, code := in.cli(t, "streamed", "cp", "-", env+":stream")
	require.Zero(t, code, errOut)
	require.Equal(t, "streamed", in.Command(t, "cp", env+":stream", "-"))
	archive := in.Command(t, "cp", "--tar", env+":new", "-")
	_, errOut, code = in.cli(t, archive, "cp", "--tar", "-", env+":again")
	require.Zero(t, code, errOut)
	require.Equal(t, "content", in.Command(t, "cat", env+":again/dir/file"))

	for _, bad := range []struct{ from, to, want string }{
		{"/nonexistent", env + ":x", "/nonexistent"},
		{env + ":nonexistent", dir, "nonexistent"},
		{name, "/tmp", "ENV:PATH"},
		{name, env + ":/etc/x", "permission denied"},
		{env + ":new", "-", "--tar"},
	} {
		_, errOut, code := in.cli(t, "", "cp", bad.from, bad.to)
		require.Equal(t, 1, code)
		require.Contains(t, errOut, bad.want)
	}
}
