// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// watching returns a function that waits for a change, and passes over others.
func watching(t *testing.T, dir string, recursive bool) (want func(kind, path, from string), ended func() error) {
	t.Helper()
	c, _ := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	stream, err := c.Watch(ctx, connect.NewRequest(&guestv1.FilesystemWatchRequest{Path: dir, Recursive: recursive, AsRoot: os.Getuid() == 0}))
	require.NoError(t, err)
	t.Cleanup(func() {
		cancel()
		_ = stream.Close()
	})
	want = func(kind, path, from string) {
		t.Helper()
		for stream.Receive() {
			m := stream.Msg()
			if strings.TrimPrefix(m.GetKind().String(), "CHANGE_KIND_") == kind && m.GetPath() == path && m.GetFromPath() == from {
				return
			}
		}
		require.NoError(t, stream.Err())
		require.Fail(t, "the stream ended", "no %s of %s", kind, path)
	}
	want("WATCHING", dir, "")
	return want, func() error {
		for stream.Receive() {
		}
		return stream.Err()
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub")
	require.NoError(t, os.Mkdir(sub, 0o755))
	want, ended := watching(t, dir, true)
	write := func(path string) { require.NoError(t, os.WriteFile(path, []byte("x"), 0o644)) }

	write(filepath.Join(sub, "a"))
	want("CREATED", sub+"/a", "")
	want("MODIFIED", sub+"/a", "")
	require.NoError(t, os.Rename(sub+"/a", dir+"/b"))
	want("MOVED", dir+"/b", sub+"/a")
	require.NoError(t, os.Remove(dir+"/b"))
	want("REMOVED", dir+"/b", "")

	// What is made in a new directory before its watch stands is not lost.
	require.NoError(t, os.MkdirAll(dir+"/n/e/w", 0o755))
	write(dir + "/n/e/w/deep")
	want("CREATED", dir+"/n/e/w/deep", "")

	// A directory that has moved is known by its new name.
	require.NoError(t, os.Rename(dir+"/n", dir+"/m"))
	want("MOVED", dir+"/m", dir+"/n")
	write(dir + "/m/e/after")
	want("CREATED", dir+"/m/e/after", "")

	// One that has left is not known any more.
	require.NoError(t, os.Rename(dir+"/m", filepath.Join(t.TempDir(), "out")))
	want("REMOVED", dir+"/m", "")

	require.NoError(t, os.RemoveAll(dir))
	want("REMOVED", dir, "")
	require.NoError(t, ended(), "the stream ends with its directory")
}

func TestWatchFlat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub")
	require.NoError(t, os.Mkdir(sub, 0o755))
	want, _ := watching(t, dir, false)
	require.NoError(t, os.WriteFile(sub+"/unseen", nil, 0o644))
	require.NoError(t, os.WriteFile(dir+"/seen", nil, 0o644))
	want("CREATED", dir+"/seen", "")
}

func TestWatchErrors(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for path, code := range map[string]connect.Code{
		"relative": connect.CodeInvalidArgument, dir + "/none": connect.CodeNotFound, file: connect.CodeFailedPrecondition,
	} {
		stream, err := c.Watch(t.Context(), connect.NewRequest(&guestv1.FilesystemWatchRequest{Path: path}))
		require.NoError(t, err)
		require.False(t, stream.Receive())
		require.Equal(t, code, connect.CodeOf(stream.Err()), path)
		_ = stream.Close()
	}
}
