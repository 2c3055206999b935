// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/tartree"
)

// ArchiveOut streams a tree. The client's reading sets the pace.
func (s *Service) ArchiveOut(
	ctx context.Context, req *connect.Request[guestv1.FilesystemArchiveOutRequest],
	stream *connect.ServerStream[guestv1.FilesystemArchiveOutResponse],
) error {
	if err := checkPath("path", req.Msg.GetPath()); err != nil {
		return err
	}
	out := bufio.NewWriterSize(archiveSender{stream}, pieceSize)
	var res tartree.Result
	base := req.Msg.GetPath() // what the names of errors are relative to
	err := s.as(req.Msg.GetAsRoot(), func() error {
		root, name, err := openTree(req.Msg.GetPath())
		if err != nil {
			return err
		}
		defer func() { _ = root.Close() }() // it was only read
		if name != "." {
			base = path.Dir(base)
		}
		res, err = tartree.Pack(ctx, root, name, "", out)
		return err
	})
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return archiveFailure(base, err)
	}
	done := &guestv1.ArchiveSummary{
		Entries: res.Entries, Bytes: res.Bytes, Skipped: res.Skipped, Changed: res.Changed, Unreadable: res.Unreadable,
	}
	for _, f := range res.Failures {
		done.Errors = append(done.Errors, archiveError(path.Join(base, f.Name), f.Err))
	}
	return stream.Send(&guestv1.FilesystemArchiveOutResponse{Done: done})
}

// archiveError describes an error of os.Root on the file at path.
func archiveError(path string, err error) *guestv1.FileError {
	failed := &fileError{operation: "read", path: display(path), err: err}
	var p *fs.PathError
	if errors.As(err, &p) {
		failed.operation = p.Op
	}
	detail, _ := failed.detail()
	return detail
}

// openTree returns a root and the name in it that path means: the directory
// itself, or a file in its directory.
func openTree(p string) (*os.Root, string, error) {
	info, err := os.Lstat(p)
	if err != nil {
		return nil, "", err
	}
	if info.IsDir() {
		root, err := os.OpenRoot(p)
		return root, ".", err
	}
	dir, name := path.Split(p)
	root, err := os.OpenRoot(dir)
	return root, name, err
}

// archiveSender sends what is written; Send keeps nothing of it.
type archiveSender struct {
	stream *connect.ServerStream[guestv1.FilesystemArchiveOutResponse]
}

func (a archiveSender) Write(p []byte) (int, error) {
	if err := a.stream.Send(&guestv1.FilesystemArchiveOutResponse{Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ArchiveIn unpacks what comes.
func (s *Service) ArchiveIn(
	ctx context.Context, stream *connect.ClientStream[guestv1.FilesystemArchiveInRequest],
) (*connect.Response[guestv1.FilesystemArchiveInResponse], error) {
	if !stream.Receive() {
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, invalid("open", "is required as the first message")
	}
	ask := stream.Msg().GetOpen()
	if err := checkPath("open.path", ask.GetPath()); err != nil {
		return nil, err
	}
	in := &archiveReceiver{stream: stream}
	var res tartree.Result
	err := s.as(ask.GetAsRoot(), func() error {
		if err := makeParents(strings.TrimRight(ask.GetPath(), "/") + "/"); err != nil {
			return err
		}
		root, err := openRoot(ask.GetPath())
		if err != nil {
			return err
		}
		defer func() { _ = root.Close() }() // its files are closed and checked
		res, err = tartree.Unpack(ctx, root, in, tartree.Options{Owners: ask.GetAsRoot()})
		if err == nil {
			// Padding may follow the end of the archive.
			_, err = io.Copy(io.Discard, in)
		}
		return err
	})
	if err != nil {
		return nil, archiveFailure(ask.GetPath(), err)
	}
	return connect.NewResponse(&guestv1.FilesystemArchiveInResponse{
		Entries: res.Entries, Bytes: res.Bytes, Skipped: res.Skipped,
	}), nil
}

// openRoot is os.OpenRoot, which says that something is not a directory without the
// errno.
func openRoot(path string) (*os.Root, error) {
	root, err := os.OpenRoot(path)
	if errno := unix.Errno(0); err != nil && !errors.As(err, &errno) {
		return nil, fail("open", path, unix.ENOTDIR)
	}
	return root, err
}

// archiveReceiver reads the data of a stream.
type archiveReceiver struct {
	stream *connect.ClientStream[guestv1.FilesystemArchiveInRequest]
	rest   []byte
}

func (a *archiveReceiver) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if !a.stream.Receive() {
			if err := a.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		message, ok := a.stream.Msg().GetMessage().(*guestv1.FilesystemArchiveInRequest_Data)
		if !ok {
			return 0, invalid("data", "every message but the first carries data")
		}
		if len(message.Data) > maxWriteData {
			return 0, invalid("data", "is longer than %d bytes", maxWriteData)
		}
		a.rest = message.Data
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// archiveFailure turns the errors of os.Root, which speak of files in the directory
// root, into those of this service.
func archiveFailure(root string, err error) error {
	var (
		coded *connect.Error
		file  *fileError
		p     *fs.PathError
		link  *os.LinkError
		errno unix.Errno
	)
	switch {
	case errors.As(err, &coded):
		return coded
	case errors.As(err, &file):
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &p):
		err = failIn(root, p.Op, p.Path, p.Err)
	case errors.As(err, &link):
		err = failIn(root, link.Op, link.New, link.Err)
	default: // the archive itself
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	if !errors.As(err, &errno) {
		// os.Root has refused to leave the directory.
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	return answer(err)
}

// failIn names the call as the others are named: os.Root has openat for open.
func failIn(root, op, name string, err error) error {
	if op != "stat" && op != "lstat" {
		op = strings.TrimSuffix(op, "at")
	}
	if !path.IsAbs(name) {
		name = path.Join(root, name)
	}
	return fail(op, name, err)
}
