// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func TestMakeDir(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	mkdir := func(path string, mode *uint32, parents bool) (*guestv1.Entry, error) {
		res, err := c.MakeDir(t.Context(), connect.NewRequest(
			&guestv1.FilesystemMakeDirRequest{Path: path, Mode: mode, Parents: parents}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetEntry(), nil
	}
	entry, err := mkdir(dir+"/a", proto.Uint32(0o777), false)
	require.NoError(t, err)
	require.EqualValues(t, 0o777, entry.GetMode(), "the umask takes nothing")
	_, err = mkdir(dir+"/a", nil, false)
	requireFailure(t, err, connect.CodeAlreadyExists, "EEXIST")
	_, err = mkdir(dir+"/x/y", nil, false)
	requireFailure(t, err, connect.CodeNotFound, "ENOENT")
	for range 2 {
		entry, err = mkdir(dir+"/x/y/z/", nil, true)
		require.NoError(t, err)
		require.Equal(t, guestv1.FileType_FILE_TYPE_DIRECTORY, entry.GetType())
	}
	require.NoError(t, os.WriteFile(dir+"/file", nil, 0o644))
	_, err = mkdir(dir+"/file", nil, true)
	requireFailure(t, err, connect.CodeAlreadyExists, "EEXIST")
}

func TestRemove(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	remove := func(req *guestv1.FilesystemRemoveRequest) (uint64, error) {
		res, err := c.Remove(t.Context(), connect.NewRequest(req))
		if err != nil {
			return 0, err
		}
		return res.Msg.GetRemoved(), nil
	}
	_, err := c.MakeDir(t.Context(), connect.NewRequest(
		&guestv1.FilesystemMakeDirRequest{Path: dir + "/tree/sub", Parents: true}))
	require.NoError(t, err)
	keep := filepath.Join(t.TempDir(), "keep")
	require.NoError(t, os.WriteFile(keep, nil, 0o644))
	require.NoError(t, os.Symlink(filepath.Dir(keep), dir+"/tree/sub/link"))
	for i := range 3000 { // more than one batch
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/tree/sub/%d", dir, i), nil, 0o644))
	}
	_, err = remove(&guestv1.FilesystemRemoveRequest{Path: dir + "/tree"})
	requireFailure(t, err, connect.CodeFailedPrecondition, "ENOTEMPTY")
	removed, err := remove(&guestv1.FilesystemRemoveRequest{Path: dir + "/tree", Recursive: true})
	require.NoError(t, err)
	require.EqualValues(t, 3003, removed)
	require.NoDirExists(t, dir+"/tree")
	require.FileExists(t, keep, "links are not followed")
	_, err = remove(&guestv1.FilesystemRemoveRequest{Path: dir + "/tree"})
	requireFailure(t, err, connect.CodeNotFound, "ENOENT")
	_, err = remove(&guestv1.FilesystemRemoveRequest{Path: dir + "/tree", MissingOk: true})
	require.NoError(t, err)
	for _, path := range []string{"/", "/..", dir + "/."} {
		_, err = remove(&guestv1.FilesystemRemoveRequest{Path: path})
		requireFailure(t, err, connect.CodeInvalidArgument, "")
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	for _, name := range []string{"one", "two"} {
		_, err := write(t, c, &guestv1.WriteOpen{Path: filepath.Join(dir, name)}, []byte(name))
		require.NoError(t, err)
	}
	move := func(from, to string, overwrite bool) error {
		_, err := c.Move(t.Context(), connect.NewRequest(
			&guestv1.FilesystemMoveRequest{From: dir + from, To: dir + to, Overwrite: overwrite}))
		return err
	}
	requireFailure(t, move("/one", "/two", false), connect.CodeAlreadyExists, "EEXIST")
	require.NoError(t, move("/one", "/two", true))
	data, err := os.ReadFile(dir + "/two")
	require.NoError(t, err)
	require.Equal(t, "one", string(data))
	requireFailure(t, move("/one", "/three", false), connect.CodeNotFound, "ENOENT")
}
