// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/stacklok/waggle/guestd/filesystem"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// nobody is an ordinary user: uid and gid of no file that a test makes as root.
const nobody = 65534

// serve returns a client of the service, and a directory that the workload user
// owns. Run by root, the workload user is nobody, else the caller.
func serve(t *testing.T) (guestv1connect.FilesystemClient, string) {
	t.Helper()
	user := filesystem.User{UID: os.Getuid(), GID: os.Getgid()}
	if user.UID == 0 {
		user = filesystem.User{UID: nobody, GID: nobody}
	}
	dir := t.TempDir()
	for parent := dir; parent != "/" && parent != os.TempDir(); parent = filepath.Dir(parent) {
		require.NoError(t, os.Chmod(parent, 0o755))
	}
	require.NoError(t, os.Chown(dir, user.UID, user.GID))

	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	_, handler := guestv1connect.NewFilesystemHandler(
		filesystem.New(func() (filesystem.User, error) { return user, nil }))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: handler, Protocols: protocols}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	transport := &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
		},
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return guestv1connect.NewFilesystemClient(&http.Client{Transport: transport}, "http://guest", connect.WithGRPC()), dir
}

func write(
	t *testing.T, c guestv1connect.FilesystemClient, open *guestv1.WriteOpen, data ...[]byte,
) (*guestv1.FilesystemWriteResponse, error) {
	t.Helper()
	stream := c.Write(t.Context())
	err := stream.Send(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Open{Open: open}})
	for _, piece := range data {
		if err == nil { // else CloseAndReceive has the reason
			err = stream.Send(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Data{Data: piece}})
		}
	}
	res, err := stream.CloseAndReceive()
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func read(t *testing.T, c guestv1connect.FilesystemClient, req *guestv1.FilesystemReadRequest) ([]byte, error) {
	t.Helper()
	stream, err := c.Read(t.Context(), connect.NewRequest(req))
	require.NoError(t, err)
	defer stream.Close()
	var data []byte
	for i := 0; stream.Receive(); i++ {
		if i == 0 {
			require.NotNil(t, stream.Msg().GetEntry(), "the first message is the entry")
			continue
		}
		data = append(data, stream.Msg().GetData()...)
	}
	return data, stream.Err()
}

// requireFailure checks code and errno of an error.
func requireFailure(t *testing.T, err error, code connect.Code, errno string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, connect.CodeOf(err), "%v", err)
	var failed *connect.Error
	require.ErrorAs(t, err, &failed)
	if errno == "" {
		return
	}
	require.Len(t, failed.Details(), 1, "%v", err)
	detail, err := failed.Details()[0].Value()
	require.NoError(t, err)
	file, ok := detail.(*guestv1.FileError)
	require.True(t, ok)
	require.Equal(t, errno, file.GetErrnoName())
	require.NotEmpty(t, file.GetPath())
	require.NotEmpty(t, file.GetOperation())
}

func TestErrors(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	require.NoError(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666))
	require.NoError(t, os.Chmod(filepath.Join(dir, "fifo"), 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	for _, tc := range []struct {
		name, path string
		code       connect.Code
		errno      string
	}{
		{"relative", "x", connect.CodeInvalidArgument, ""},
		{"empty", "", connect.CodeInvalidArgument, ""},
		{"nul", "/a\x00b", connect.CodeInvalidArgument, ""},
		{"long", "/" + strings.Repeat("x/", 2048), connect.CodeInvalidArgument, ""},
		{"long name", "/" + strings.Repeat("x", 300), connect.CodeInvalidArgument, "ENAMETOOLONG"},
		{"missing", dir + "/none", connect.CodeNotFound, "ENOENT"},
		{"loop", dir + "/loop", connect.CodeFailedPrecondition, "ELOOP"},
		{"below a file", dir + "/file/x", connect.CodeFailedPrecondition, "ENOTDIR"},
		{"directory", dir + "/sub", connect.CodeFailedPrecondition, "EISDIR"},
		{"fifo", dir + "/fifo", connect.CodeFailedPrecondition, ""},
		{"device", "/dev/null", connect.CodeFailedPrecondition, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := read(t, c, &guestv1.FilesystemReadRequest{Path: tc.path})
			requireFailure(t, err, tc.code, tc.errno)
			if tc.name == "missing" || tc.name == "device" {
				return // can be written, or not by this user
			}
			_, err = write(t, c, &guestv1.WriteOpen{Path: tc.path}, []byte("y"))
			requireFailure(t, err, tc.code, tc.errno)
		})
	}
	left, err := filepath.Glob(dir + "/.waggle-*")
	require.NoError(t, err)
	require.Empty(t, left, "temporary files stay behind")
}

func TestRights(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to have files that the workload user may not touch")
	}
	c, dir := serve(t)
	closed := filepath.Join(dir, "closed")
	require.NoError(t, os.WriteFile(closed, []byte("secret"), 0o600))
	_, err := read(t, c, &guestv1.FilesystemReadRequest{Path: closed})
	requireFailure(t, err, connect.CodePermissionDenied, "EACCES")
	_, err = write(t, c, &guestv1.WriteOpen{Path: closed}, []byte("mine"))
	requireFailure(t, err, connect.CodePermissionDenied, "EACCES")
	_, err = write(t, c, &guestv1.WriteOpen{Path: "/etc/waggle-test"}, []byte("mine"))
	requireFailure(t, err, connect.CodePermissionDenied, "EACCES")

	data, err := read(t, c, &guestv1.FilesystemReadRequest{Path: closed, AsRoot: true})
	require.NoError(t, err)
	require.Equal(t, "secret", string(data))

	res, err := write(t, c, &guestv1.WriteOpen{Path: dir + "/own"}, []byte("x"))
	require.NoError(t, err)
	require.EqualValues(t, nobody, res.GetEntry().GetUid())
	require.EqualValues(t, nobody, res.GetEntry().GetGid())
	res, err = write(t, c, &guestv1.WriteOpen{Path: dir + "/own", AsRoot: true}, []byte("y"))
	require.NoError(t, err)
	require.EqualValues(t, nobody, res.GetEntry().GetUid(), "root keeps the owner of what it replaces")
}

// TestIdentityDoesNotLeak looks for threads that a call left with the ids of
// the workload user.
func TestIdentityDoesNotLeak(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	c, dir := serve(t)
	for range 50 {
		_, err := c.Stat(t.Context(), connect.NewRequest(&guestv1.FilesystemStatRequest{Path: dir}))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { // an ended thread takes the kernel a moment
		paths, err := filepath.Glob("/proc/self/task/*/status")
		require.NoError(t, err)
		for _, path := range paths {
			status, err := os.ReadFile(path)
			if err == nil && strings.Contains(string(status), fmt.Sprintf("\t%d\n", nobody)) {
				return false
			}
		}
		return true
	}, 1e10, 1e7)
}

func TestWriteAndReadBack(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	path := filepath.Join(dir, "a/b/big")
	piece := make([]byte, 1<<20)
	for i := range piece {
		piece[i] = byte(i * 7 >> 3)
	}
	pieces := make([][]byte, 64)
	sent := sha256.New()
	for i := range pieces {
		pieces[i] = piece
		sent.Write(piece)
	}
	open := &guestv1.WriteOpen{Path: path, MakeParents: true, Size: proto.Uint64(64 << 20), Mode: proto.Uint32(0o640)}
	res, err := write(t, c, open, pieces...)
	require.NoError(t, err)
	require.EqualValues(t, 64<<20, res.GetBytesWritten())
	require.EqualValues(t, 0o640, res.GetEntry().GetMode())
	got, err := read(t, c, &guestv1.FilesystemReadRequest{Path: path})
	require.NoError(t, err)
	require.Equal(t, sent.Sum(nil), hash(got))

	for _, tc := range []struct {
		offset, limit uint64
		want          int
	}{
		{0, 1, 1},
		{64<<20 - 3, 0, 3},
		{64<<20 - 3, 10, 3},
		{1 << 20, 300 << 10, 300 << 10},
		{64 << 20, 0, 0},
		{math.MaxInt64, 0, 0},
		{math.MaxUint64, math.MaxUint64, 0},
	} {
		part, err := read(t, c, &guestv1.FilesystemReadRequest{Path: path, Offset: tc.offset, Limit: tc.limit})
		require.NoError(t, err, "%+v", tc)
		require.Len(t, part, tc.want, "%+v", tc)
		if tc.want > 0 {
			require.Equal(t, hash(got[tc.offset:int(tc.offset)+tc.want]), hash(part), "%+v", tc)
		}
	}
}

func hash(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}

func TestReplace(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	path := dir + "/file"
	content := func() string {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(data)
	}
	_, err := write(t, c, &guestv1.WriteOpen{Path: path, Mode: proto.Uint32(0o700)}, []byte("one"))
	require.NoError(t, err)
	res, err := write(t, c, &guestv1.WriteOpen{Path: path}, []byte("two"))
	require.NoError(t, err)
	require.EqualValues(t, 0o700, res.GetEntry().GetMode(), "the mode is kept")
	require.Equal(t, "two", content())

	_, err = write(t, c, &guestv1.WriteOpen{Path: path, Exclusive: true}, []byte("three"))
	requireFailure(t, err, connect.CodeAlreadyExists, "EEXIST")
	_, err = write(t, c, &guestv1.WriteOpen{Path: path, Size: proto.Uint64(9)}, []byte("four"))
	requireFailure(t, err, connect.CodeInvalidArgument, "")
	require.Equal(t, "two", content(), "a failed write changes nothing")

	res, err = write(t, c, &guestv1.WriteOpen{Path: path, Append: true}, []byte("+"), []byte("more"))
	require.NoError(t, err)
	require.EqualValues(t, 5, res.GetBytesWritten())
	require.Equal(t, "two+more", content())

	require.NoError(t, os.Symlink("file", dir+"/link"))
	require.NoError(t, os.Symlink("made", dir+"/dangling"))
	_, err = write(t, c, &guestv1.WriteOpen{Path: dir + "/link"}, []byte("by link"))
	require.NoError(t, err)
	require.Equal(t, "by link", content())
	_, err = write(t, c, &guestv1.WriteOpen{Path: dir + "/dangling"}, []byte("new"))
	require.NoError(t, err)
	require.FileExists(t, dir+"/made")
	for _, link := range []string{"link", "dangling"} {
		_, err := os.Readlink(filepath.Join(dir, link))
		require.NoError(t, err, "%s is still a link", link)
	}
}

// TestBrokenWrite cuts a write off: the old content stays, nothing is left.
func TestBrokenWrite(t *testing.T) {
	t.Parallel()
	c, dir := serve(t)
	path := dir + "/file"
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o666))
	require.NoError(t, os.Chmod(path, 0o666))
	ctx, cancel := context.WithCancel(t.Context())
	stream := c.Write(ctx)
	open := &guestv1.WriteOpen{Path: path}
	require.NoError(t, stream.Send(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Open{Open: open}}))
	require.NoError(t, stream.Send(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Data{Data: []byte("new")}}))
	temps := func() int {
		left, err := filepath.Glob(dir + "/.waggle-*")
		require.NoError(t, err)
		return len(left)
	}
	require.Eventually(t, func() bool { return temps() == 1 }, 1e10, 1e6, "the write begins")
	cancel() // and no close, which would commit when it overtakes the cancellation
	require.Eventually(t, func() bool { return temps() == 0 }, 1e10, 1e6, "the write is undone")
	_, err := stream.CloseAndReceive()
	require.Error(t, err)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(data))
}

func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	c, dir := serve(t)
	small := filepath.Join(dir, "small")
	require.NoError(t, os.Mkdir(small, 0o755))
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m,mode=0777"); err != nil {
		require.True(t, errors.Is(err, unix.EPERM), "%v", err)
		t.Skip("may not mount here")
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(small, 0)) })
	piece := make([]byte, 1<<20)
	_, err := write(t, c, &guestv1.WriteOpen{Path: small + "/big"}, piece, piece, piece)
	requireFailure(t, err, connect.CodeResourceExhausted, "ENOSPC")
	left, err := os.ReadDir(small)
	require.NoError(t, err)
	require.Empty(t, left)
}
