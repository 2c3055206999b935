// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// listAll reads all pages and returns the paths relative to the directory.
func listAll(t *testing.T, c guestv1connect.FilesystemClient, req *guestv1.FilesystemListRequest) []string {
	t.Helper()
	var paths []string
	for {
		res, err := c.List(t.Context(), connect.NewRequest(req))
		require.NoError(t, err)
		if req.GetPageSize() > 0 {
			require.LessOrEqual(t, len(res.Msg.GetEntries()), int(req.GetPageSize()))
		}
		for _, entry := range res.Msg.GetEntries() {
			paths = append(paths, strings.TrimPrefix(entry.GetPath(), req.GetPath()+"/"))
		}
		if res.Msg.GetNextPageToken() == "" {
			return paths
		}
		require.NotEmpty(t, res.Msg.GetEntries(), "a page that leads on has entries")
		req.PageToken = res.Msg.GetNextPageToken()
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	for _, file := range []string{"a/x", "a/y/z/deep", "a.b", "b", "empty/", "c/1", "c/2", "c/3"} {
		path := filepath.Join(dir, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if strings.HasSuffix(file, "/") {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		require.NoError(t, os.WriteFile(path, nil, 0o644))
	}
	require.NoError(t, os.Symlink("a", dir+"/link"))
	top := []string{"a", "a.b", "b", "c", "empty", "link"}
	deep := []string{
		"a", "a/x", "a/y", "a/y/z", "a/y/z/deep", "a.b", "b", "c", "c/1", "c/2", "c/3", "empty", "link",
	}
	for _, tc := range []struct {
		depth uint32
		want  []string
	}{{0, top}, {1, top}, {64, deep}} {
		for size := range uint32(8) { // 0: one page
			got := listAll(t, c, &guestv1.FilesystemListRequest{Path: dir, Depth: tc.depth, PageSize: size})
			require.Equal(t, tc.want, got, "depth %d, pages of %d", tc.depth, size)
		}
	}
}

// TestListLargeDirectory takes more than one batch of names a page.
func TestListLargeDirectory(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	var want []string
	for i := range 5000 {
		name := fmt.Sprintf("%05d", i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		want = append(want, name)
	}
	for _, size := range []uint32{999, 4999, 5000, 10000} {
		require.Equal(t, want, listAll(t, c, &guestv1.FilesystemListRequest{Path: dir, PageSize: size}), "%d", size)
	}
}

func TestListOddities(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	require.NoError(t, os.WriteFile(dir+"/bad\xff", nil, 0o644))
	require.NoError(t, os.Mkdir(dir+"/closed", 0o700))
	require.NoError(t, os.Symlink("bad", dir+"/link"))
	res, err := c.List(t.Context(), connect.NewRequest(&guestv1.FilesystemListRequest{Path: dir, Depth: 2}))
	require.NoError(t, err)
	entries := res.Msg.GetEntries()
	require.Len(t, entries, 3)
	require.Equal(t, dir+"/bad\uFFFD", entries[0].GetPath())
	require.Equal(t, dir+"/bad\xff", string(entries[0].GetPathBytes()))
	require.Equal(t, "bad", entries[2].GetLinkTarget())
	if os.Getuid() == 0 {
		require.Len(t, res.Msg.GetErrors(), 1)
		require.Equal(t, "EACCES", res.Msg.GetErrors()[0].GetErrnoName())
	}
	for _, bad := range []*guestv1.FilesystemListRequest{
		{Path: dir, PageToken: "?"},
		{Path: dir, PageToken: "garbage"},
		{Path: dir, PageToken: formatToken(t, c)}, // of another directory
		{Path: dir, PageToken: "Li4vZXRj"},        // ../etc
		{Path: dir, Depth: 65},
		{Path: dir, PageSize: 10001},
	} {
		_, err := c.List(t.Context(), connect.NewRequest(bad))
		requireFailure(t, err, connect.CodeInvalidArgument, "")
	}
	_, err = c.List(t.Context(), connect.NewRequest(&guestv1.FilesystemListRequest{Path: dir + "/bad\uFFFD"}))
	requireFailure(t, err, connect.CodeNotFound, "ENOENT")
}

// formatToken returns a token of a request of its own.
func formatToken(t *testing.T, c guestv1connect.FilesystemClient) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/a", nil, 0o644))
	require.NoError(t, os.WriteFile(dir+"/b", nil, 0o644))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	require.NoError(t, os.Chmod(dir, 0o755))
	res, err := c.List(t.Context(), connect.NewRequest(&guestv1.FilesystemListRequest{Path: dir, PageSize: 1}))
	require.NoError(t, err)
	require.NotEmpty(t, res.Msg.GetNextPageToken())
	return res.Msg.GetNextPageToken()
}

// TestListUnreadable: what cannot be looked at hides nothing else.
func TestListUnreadable(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make what the user of guestd may not read")
	}
	c, dir := serve(t)
	require.NoError(t, os.MkdirAll(dir+"/blind", 0o755))
	require.NoError(t, os.WriteFile(dir+"/blind/file", nil, 0o644))
	require.NoError(t, os.WriteFile(dir+"/later", nil, 0o644))
	require.NoError(t, os.Chmod(dir+"/blind", 0o744)) // its names may be read, no more
	res, err := c.List(t.Context(), connect.NewRequest(&guestv1.FilesystemListRequest{Path: dir, Depth: 9}))
	require.NoError(t, err)
	require.Len(t, res.Msg.GetEntries(), 2)
	require.Len(t, res.Msg.GetErrors(), 1)
	require.Equal(t, dir+"/blind", res.Msg.GetErrors()[0].GetPath())

	// The links of another user's process.
	res, err = c.List(t.Context(), connect.NewRequest(&guestv1.FilesystemListRequest{Path: "/proc/1"}))
	require.NoError(t, err)
	require.NotEmpty(t, res.Msg.GetErrors())
	for _, entry := range res.Msg.GetEntries() {
		if entry.GetPath() == "/proc/1/cwd" {
			require.Equal(t, guestv1.FileType_FILE_TYPE_SYMLINK, entry.GetType())
			require.Empty(t, entry.GetLinkTarget())
		}
	}
	require.Equal(t, "/proc/1/cwd", res.Msg.GetErrors()[0].GetPath())
	require.Equal(t, "readlink", res.Msg.GetErrors()[0].GetOperation())
}
