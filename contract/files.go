// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// files is Filesystem.
func files() []Scenario {
	return []Scenario{
		{"files written and read", None, writeAndRead},
		{"a broken write", None, brokenWrite},
		{"directories", None, directories},
		{"lists in pages", None, lists},
		{"a list of what cannot all be read", Machine, unreadableList},
		{"file errors", None, fileErrors},
	}
}

func (g *Guest) write(ctx context.Context, open *guestv1.WriteOpen, pieces ...[]byte) (*guestv1.FilesystemWriteResponse, error) {
	stream := g.Files.Write(ctx)
	err := stream.Send(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Open{Open: open}})
	for _, piece := range pieces {
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

func (g *Guest) read(ctx context.Context, req *guestv1.FilesystemReadRequest) (*guestv1.Entry, []byte, error) {
	stream, err := g.Files.Read(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = stream.Close() }()
	var entry *guestv1.Entry
	var data []byte
	for stream.Receive() {
		if e := stream.Msg().GetEntry(); e != nil {
			if entry != nil || data != nil {
				return nil, nil, fmt.Errorf("the entry is not the first message")
			}
			entry = e
		}
		data = append(data, stream.Msg().GetData()...)
	}
	return entry, data, stream.Err()
}

func writeAndRead(ctx context.Context, t *testing.T, g *Guest) {
	path := g.dir(ctx, t) + "/a/b/file"
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	res, err := g.write(ctx, &guestv1.WriteOpen{Path: path, MakeParents: true, Mode: new(uint32(0o640)), Size: new(uint64(3 << 20))}, big, big, big)
	require.NoError(t, err)
	require.EqualValues(t, 3<<20, res.GetBytesWritten())
	require.EqualValues(t, 0o640, res.GetEntry().GetMode())

	entry, data, err := g.read(ctx, &guestv1.FilesystemReadRequest{Path: path})
	require.NoError(t, err)
	require.EqualValues(t, 3<<20, entry.GetSize())
	require.Equal(t, guestv1.FileType_FILE_TYPE_REGULAR, entry.GetType())
	require.True(t, bytes.Equal(bytes.Repeat(big, 3), data))
	for _, c := range []struct {
		offset, limit uint64
		want          string
	}{
		{1<<20 - 2, 4, "ef01"}, {3<<20 - 3, 0, "def"}, {3<<20 - 1, 100, "f"}, {4 << 20, 1, ""},
	} {
		_, data, err = g.read(ctx, &guestv1.FilesystemReadRequest{Path: path, Offset: c.offset, Limit: c.limit})
		require.NoError(t, err)
		require.Equal(t, c.want, string(data))
	}
	// Replacing keeps the mode, and takes nothing from who reads the old one.
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: path}, []byte("new"))
	require.NoError(t, err)
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: path, Append: true}, []byte(" and more"))
	require.NoError(t, err)
	entry, data, err = g.read(ctx, &guestv1.FilesystemReadRequest{Path: path})
	require.NoError(t, err)
	require.Equal(t, "new and more", string(data))
	require.EqualValues(t, 0o640, entry.GetMode())
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: path, Exclusive: true}, []byte("x"))
	require.Equal(t, connect.CodeAlreadyExists, connect.CodeOf(err), "%v", err)
	// A command sees what was written, and its user owns it.
	f := g.run(ctx, t, shell("cat "+path+"; [ -O "+path+" ] && echo; ls -A "+path[:len(path)-len("/file")]))
	require.Equal(t, "new and more\nfile\n", f.stdout.String(), "no temporary file is left")
}

// brokenWrite cuts one, and lets another's size not be true.
func brokenWrite(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	path := dir + "/file"
	_, err := g.write(ctx, &guestv1.WriteOpen{Path: path}, []byte("old"))
	require.NoError(t, err)
	own, cut := g.alone(t)
	stream := own.Files.Write(ctx)
	require.NoError(t, stream.Send(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Open{Open: &guestv1.WriteOpen{Path: path}}}))
	require.NoError(t, stream.Send(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Data{Data: []byte("half")}}))
	eventually(ctx, t, func() bool { return g.run(ctx, t, argv("ls", "-A", dir)).stdout.String() != "file\n" })
	cut()
	_, err = stream.CloseAndReceive()
	require.Error(t, err)
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: path, Size: new(uint64(9))}, []byte("short"))
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%v", err)

	eventually(ctx, t, func() bool { return g.run(ctx, t, argv("ls", "-A", dir)).stdout.String() == "file\n" })
	_, data, err := g.read(ctx, &guestv1.FilesystemReadRequest{Path: path})
	require.NoError(t, err)
	require.Equal(t, "old", string(data))
}

func directories(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	deep := dir + "/x/y/z"
	made, err := g.Files.MakeDir(ctx, connect.NewRequest(&guestv1.FilesystemMakeDirRequest{Path: deep, Parents: true, Mode: new(uint32(0o700))}))
	require.NoError(t, err)
	require.EqualValues(t, 0o700, made.Msg.GetEntry().GetMode())
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: deep + "/file"}, []byte("text"))
	require.NoError(t, err)
	require.Zero(t, g.run(ctx, t, argv("ln", "-s", "file", deep+"/link")).exited.GetExitCode())

	stat := func(path string, noFollow bool) *guestv1.Entry {
		res, err := g.Files.Stat(ctx, connect.NewRequest(&guestv1.FilesystemStatRequest{Path: path, NoFollow: noFollow}))
		require.NoError(t, err)
		return res.Msg.GetEntry()
	}
	require.EqualValues(t, 4, stat(deep+"/link", false).GetSize())
	link := stat(deep+"/link", true)
	require.Equal(t, guestv1.FileType_FILE_TYPE_SYMLINK, link.GetType())
	require.Equal(t, "file", link.GetLinkTarget())

	move := &guestv1.FilesystemMoveRequest{From: deep + "/file", To: dir + "/moved"}
	_, err = g.Files.Move(ctx, connect.NewRequest(move))
	require.NoError(t, err)
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: deep + "/file"}, []byte("other"))
	require.NoError(t, err)
	_, err = g.Files.Move(ctx, connect.NewRequest(move))
	require.Equal(t, connect.CodeAlreadyExists, connect.CodeOf(err), "%v", err)
	move.Overwrite = true
	_, err = g.Files.Move(ctx, connect.NewRequest(move))
	require.NoError(t, err)
	require.EqualValues(t, 5, stat(dir+"/moved", false).GetSize())

	remove := &guestv1.FilesystemRemoveRequest{Path: dir + "/x"}
	_, err = g.Files.Remove(ctx, connect.NewRequest(remove))
	require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err), "%v", err)
	remove.Recursive = true
	removed, err := g.Files.Remove(ctx, connect.NewRequest(remove))
	require.NoError(t, err)
	require.EqualValues(t, 4, removed.Msg.GetRemoved(), "x, y, z and the link")
	_, err = g.Files.Remove(ctx, connect.NewRequest(remove))
	require.Equal(t, connect.CodeNotFound, connect.CodeOf(err), "%v", err)
	remove.MissingOk = true
	_, err = g.Files.Remove(ctx, connect.NewRequest(remove))
	require.NoError(t, err)
}

func lists(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	f := g.run(ctx, t, shell("cd "+dir+" && mkdir -p d/e && touch d/e/deep && for i in 1 2 3 4 5; do touch f$i; done"))
	require.Zero(t, f.exited.GetExitCode(), f.stderr.String())
	all := func(req *guestv1.FilesystemListRequest) (names []string, pages int) {
		for {
			res, err := g.Files.List(ctx, connect.NewRequest(req))
			require.NoError(t, err)
			require.Empty(t, res.Msg.GetErrors())
			pages++
			for _, e := range res.Msg.GetEntries() {
				names = append(names, strings.TrimPrefix(e.GetPath(), dir+"/"))
			}
			if req.PageToken = res.Msg.GetNextPageToken(); req.GetPageToken() == "" {
				return names, pages
			}
		}
	}
	names, _ := all(&guestv1.FilesystemListRequest{Path: dir})
	require.Equal(t, []string{"d", "f1", "f2", "f3", "f4", "f5"}, names)
	names, pages := all(&guestv1.FilesystemListRequest{Path: dir, Depth: 3, PageSize: 3})
	require.Equal(t, []string{"d", "d/e", "d/e/deep", "f1", "f2", "f3", "f4", "f5"}, names)
	require.GreaterOrEqual(t, pages, 3)
}

// unreadableList: links of processes of root are in /proc, which others cannot read.
// Process 1 is guestd, which may read its own; 2 is the kernel's.
func unreadableList(ctx context.Context, t *testing.T, g *Guest) {
	res, err := g.Files.List(ctx, connect.NewRequest(&guestv1.FilesystemListRequest{Path: "/proc", Depth: 2, PageSize: 10000}))
	require.NoError(t, err)
	require.NotEmpty(t, res.Msg.GetErrors())
	link, after := false, false
	for _, entry := range res.Msg.GetEntries() {
		if entry.GetPath() == "/proc/2/cwd" {
			link = true
			require.Empty(t, entry.GetLinkTarget())
		}
		after = after || entry.GetPath() == "/proc/version"
	}
	require.True(t, link, "it has an entry")
	require.True(t, after, "the list goes on behind it")
}

func fileErrors(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	file := dir + "/file"
	_, err := g.write(ctx, &guestv1.WriteOpen{Path: file}, nil)
	require.NoError(t, err)
	for _, c := range []struct {
		path  string
		code  connect.Code
		errno string
	}{
		{dir + "/nothing", connect.CodeNotFound, "ENOENT"},
		{file + "/below", connect.CodeFailedPrecondition, "ENOTDIR"},
		{dir + "/" + strings.Repeat("n", 300), connect.CodeInvalidArgument, "ENAMETOOLONG"},
		{"relative", connect.CodeInvalidArgument, ""},
		{"/a\x00b", connect.CodeInvalidArgument, ""},
	} {
		_, _, err := g.read(ctx, &guestv1.FilesystemReadRequest{Path: c.path})
		require.Equal(t, c.code, connect.CodeOf(err), "%v", err)
		if c.errno == "" {
			require.ErrorContains(t, err, "path")
			continue
		}
		detail := fileError(t, err)
		require.Equal(t, c.errno, detail.GetErrnoName())
		require.NotZero(t, detail.GetErrno())
		require.NotEmpty(t, detail.GetOperation())
		require.True(t, strings.HasPrefix(detail.GetPath(), dir), detail.GetPath())
	}
	_, err = g.write(ctx, &guestv1.WriteOpen{Path: dir}, []byte("x"))
	require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err), "%v", err)
	require.Equal(t, "EISDIR", fileError(t, err).GetErrnoName())
}

func fileError(t *testing.T, err error) *guestv1.FileError {
	t.Helper()
	var ce *connect.Error
	require.ErrorAs(t, err, &ce)
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if detail, ok := v.(*guestv1.FileError); ok {
				return detail
			}
		}
	}
	require.FailNow(t, "no FileError", "%v", err)
	return nil
}
