// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"archive/tar"
	"bytes"
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// archives is trees that come and go as one stream.
func archives() []Scenario {
	return []Scenario{
		{"an archive out and in", None, archiveRound},
		{"archives that leave their directory", None, archivesThatLeave},
		{"broken archives", None, brokenArchives},
		{"an archive that breaks off in a file", None, archiveBreaksOff},
		{"an archive of what cannot all be read", None, unreadableArchive},
	}
}

// archivePiece is what a message carries; small, so that there are some.
const archivePiece = 64 << 10

func (g *Guest) archiveOut(ctx context.Context, path string) ([]byte, *guestv1.ArchiveSummary, error) {
	stream, err := g.Files.ArchiveOut(ctx, connect.NewRequest(&guestv1.FilesystemArchiveOutRequest{Path: path}))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = stream.Close() }()
	var data []byte
	var done *guestv1.ArchiveSummary
	for stream.Receive() {
		data = append(data, stream.Msg().GetData()...)
		done = stream.Msg().GetDone()
	}
	return data, done, stream.Err()
}

func (g *Guest) archiveIn(ctx context.Context, path string, data []byte) (*guestv1.FilesystemArchiveInResponse, error) {
	stream := g.Files.ArchiveIn(ctx)
	err := stream.Send(&guestv1.FilesystemArchiveInRequest{
		Message: &guestv1.FilesystemArchiveInRequest_Open{Open: &guestv1.ArchiveOpen{Path: path}},
	})
	for err == nil && len(data) > 0 {
		n := min(len(data), archivePiece)
		err = stream.Send(&guestv1.FilesystemArchiveInRequest{Message: &guestv1.FilesystemArchiveInRequest_Data{Data: data[:n]}})
		data = data[n:]
	}
	res, err := stream.CloseAndReceive() // it has the reason of a Send that failed
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// plant makes a tree of everything that an archive keeps, and describe lists one:
// names, types, modes, links, times, sizes, contents, and the blocks of files.
const (
	plant = `set -e; cd "$1"; mkdir -p tree/sub/deep; cd tree
		echo content >'a name with ü'; chmod 640 'a name with ü'; : >empty; chmod 700 sub
		ln 'a name with ü' sub/again; ln -s ../empty sub/link; ln -s /nowhere dangling
		head -c 4096 /dev/urandom >holes; truncate -s 48M holes; echo end >>holes
		touch -d '2001-02-03 04:05:06' sub/deep empty; mkfifo fifo`
	describe = `cd "$1"; find . -mindepth 1 ! -type p | LC_ALL=C sort | while read -r f; do
		stat -c '%n %F %a %h %N %Y' "$f"; [ ! -f "$f" ] || cksum <"$f"; done
		[ 'a name with ü' -ef sub/again ] && echo one file; stat -c 'holes kept: %b' holes | sed 's/: [0-9]\{1,3\}$/: yes/'`
)

func archiveRound(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	made := g.run(ctx, t, argv("sh", "-c", plant, "sh", dir))
	require.Zero(t, made.exited.GetExitCode(), made.stderr.String())
	data, done, err := g.archiveOut(ctx, dir+"/tree")
	require.NoError(t, err)
	require.EqualValues(t, 1, done.GetSkipped(), "the FIFO")
	require.EqualValues(t, 9, done.GetEntries(), "the directory itself is one of them")
	require.Less(t, len(data), 1<<20, "holes are not sent")

	res, err := g.archiveIn(ctx, dir+"/new/copy", data)
	require.NoError(t, err)
	require.Equal(t, []uint64{done.GetEntries(), done.GetBytes()}, []uint64{res.GetEntries(), res.GetBytes()})
	list := func(name string) string {
		f := g.run(ctx, t, argv("sh", "-c", describe, "sh", dir+"/"+name))
		require.Zero(t, f.exited.GetExitCode(), f.stderr.String())
		return f.stdout.String()
	}
	want := list("tree")
	require.Contains(t, want, "\none file\nholes kept: yes\n")
	require.Equal(t, want, list("new/copy"))

	// Again, over what is there.
	_, err = g.archiveIn(ctx, dir+"/new/copy", data)
	require.NoError(t, err)
	require.Equal(t, want, list("new/copy"))
}

func archiveOf(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = 4
		}
		h.Mode = 0o755
		require.NoError(t, w.WriteHeader(h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte("evil"))
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// archivesThatLeave try each way out of the directory that was asked for.
func archivesThatLeave(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	for _, headers := range [][]*tar.Header{
		{{Typeflag: tar.TypeReg, Name: "../evil"}},
		{{Typeflag: tar.TypeReg, Name: "a/../../evil"}},
		{{Typeflag: tar.TypeSymlink, Name: "out", Linkname: ".."}, {Typeflag: tar.TypeReg, Name: "out/evil"}},
		{{Typeflag: tar.TypeSymlink, Name: "out", Linkname: dir}, {Typeflag: tar.TypeReg, Name: "out/evil"}},
		{{Typeflag: tar.TypeSymlink, Name: "evil", Linkname: "../evil"}, {Typeflag: tar.TypeLink, Name: "b", Linkname: "../secret"}},
		{{Typeflag: tar.TypeSymlink, Name: "out", Linkname: dir}, {Typeflag: tar.TypeLink, Name: "b", Linkname: "out/secret"}},
	} {
		made := g.run(ctx, t, argv("sh", "-c", `rm -rf "$1"/*; mkdir "$1"/in; echo secret >"$1"/secret`, "sh", dir))
		require.Zero(t, made.exited.GetExitCode(), made.stderr.String())
		_, err := g.archiveIn(ctx, dir+"/in", archiveOf(t, headers...))
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%+v: %v", headers[len(headers)-1], err)
		after := g.run(ctx, t, argv("sh", "-c", `cd "$1"; ls; cat secret; stat -c %h secret`, "sh", dir))
		require.Equal(t, "in\nsecret\nsecret\n1\n", after.stdout.String(), "%+v", headers[len(headers)-1])
	}
}

func brokenArchives(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	good := archiveOf(t, &tar.Header{Typeflag: tar.TypeReg, Name: "file"})
	for name, data := range map[string][]byte{
		"garbage":  []byte(strings.Repeat("no archive ", 1000)),
		"cut":      good[:513],
		"checksum": append([]byte("X"), good[1:]...),
	} {
		_, err := g.archiveIn(ctx, dir+"/"+name, data)
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%s: %v", name, err)
	}
	_, _, err := g.archiveOut(ctx, dir+"/nothing")
	refused(t, err, connect.CodeNotFound, dir+"/nothing")
	made := g.run(ctx, t, argv("touch", dir+"/plain"))
	require.Zero(t, made.exited.GetExitCode())
	_, err = g.archiveIn(ctx, dir+"/plain", good)
	require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err), "%v", err)
	long := strings.Repeat("x", 256)
	_, err = g.archiveIn(ctx, dir, archiveOf(t, &tar.Header{Typeflag: tar.TypeReg, Name: long}))
	refused(t, err, connect.CodeInvalidArgument, " "+dir+"/"+long)
}

// archiveBreaksOff: the file in the middle of which it ends is as it was before.
func archiveBreaksOff(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	made := g.run(ctx, t, argv("sh", "-c", `cd "$1"; mkdir to from; head -c 3000000 /dev/urandom >from/file; echo old >to/file`, "sh", dir))
	require.Zero(t, made.exited.GetExitCode(), made.stderr.String())
	data, _, err := g.archiveOut(ctx, dir+"/from")
	require.NoError(t, err)
	list := func() string {
		return g.run(ctx, t, argv("sh", "-c", `cd "$1"/to; ls -A; cat file`, "sh", dir)).stdout.String()
	}

	_, err = g.archiveIn(ctx, dir+"/to", data[:len(data)/2])
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%v", err)
	require.Equal(t, "file\nold\n", list())

	// The same with a client that is cut off.
	own, cut := g.alone(t)
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := own.Files.ArchiveIn(streamCtx)
	require.NoError(t, stream.Send(&guestv1.FilesystemArchiveInRequest{
		Message: &guestv1.FilesystemArchiveInRequest_Open{Open: &guestv1.ArchiveOpen{Path: dir + "/to"}},
	}))
	require.NoError(t, stream.Send(&guestv1.FilesystemArchiveInRequest{
		Message: &guestv1.FilesystemArchiveInRequest_Data{Data: data[:1<<20]},
	}))
	eventually(ctx, t, func() bool { return strings.Count(list(), "\n") > 2 }) // it is on its way
	cut()
	eventually(ctx, t, func() bool { return list() == "file\nold\n" })
}

// unreadableArchive: what cannot be read is told, and the rest is there.
func unreadableArchive(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	made := g.run(ctx, t, argv("sh", "-c", `cd "$1"; mkdir -p tree/closed tree/open; cd tree; echo a >a; echo b >b; ln b c
		echo d >closed/d; echo e >open/e; chmod 0 b closed`, "sh", dir))
	require.Zero(t, made.exited.GetExitCode(), made.stderr.String())
	if _, _, err := g.read(ctx, &guestv1.FilesystemReadRequest{Path: dir + "/tree/b"}); err == nil {
		t.Skip("this guestd may read everything")
	}
	data, done, err := g.archiveOut(ctx, dir+"/tree")
	require.NoError(t, err)
	require.EqualValues(t, 3, done.GetUnreadable())
	for i, name := range []string{"b", "c", "closed"} {
		require.Equal(t, dir+"/tree/"+name, done.GetErrors()[i].GetPath())
		require.Equal(t, "EACCES", done.GetErrors()[i].GetErrnoName())
	}
	_, err = g.archiveIn(ctx, dir+"/copy", data)
	require.NoError(t, err)
	list := g.run(ctx, t, argv("sh", "-c", `cd "$1"/copy; find . | LC_ALL=C sort; chmod 700 closed ../tree/closed`, "sh", dir))
	require.Equal(t, ".\n./a\n./closed\n./open\n./open/e\n", list.stdout.String())

	// Of the path itself it is an error.
	_, _, err = g.archiveOut(ctx, dir+"/tree/b")
	refused(t, err, connect.CodePermissionDenied, "b")
}
