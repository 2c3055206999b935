// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"context"
	"errors"
	"math"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// pieceSize is the size of a message's data in bytes.
const pieceSize = 256 << 10

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// Read streams a regular file.
func (s *Service) Read(
	ctx context.Context, req *connect.Request[guestv1.FilesystemReadRequest],
	stream *connect.ServerStream[guestv1.FilesystemReadResponse],
) error {
	msg := req.Msg
	if err := checkPath("path", msg.GetPath()); err != nil {
		return err
	}
	var (
		fd    int
		entry *guestv1.Entry
	)
	err := s.as(msg.GetAsRoot(), func() (err error) {
		fd, entry, err = openRegular(msg.GetPath(), unix.O_RDONLY)
		return err
	})
	if err != nil {
		return answer(err)
	}
	defer unix.Close(fd)
	err = stream.Send(&guestv1.FilesystemReadResponse{
		Message: &guestv1.FilesystemReadResponse_Entry{Entry: entry},
	})
	if err != nil {
		return err
	}
	return answer(sendRange(ctx, fd, msg, stream))
}

// openRegular opens a regular file. O_NONBLOCK keeps a FIFO or a device from
// blocking the open; for regular files it means nothing.
func openRegular(path string, flags int) (int, *guestv1.Entry, error) {
	fd, err := open(unix.AT_FDCWD, path, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, nil, fail("open", path, err)
	}
	entry, err := entryOf(fd, path)
	if err == nil {
		err = wantRegular(entry)
	}
	if err != nil {
		_ = unix.Close(fd) // nothing was written
		return -1, nil, err
	}
	return fd, entry, nil
}

var errNotRegular = errors.New("not a regular file")

// wantRegular refuses other kinds of files, directories with the kernel's word.
func wantRegular(entry *guestv1.Entry) error {
	switch entry.GetType() {
	case guestv1.FileType_FILE_TYPE_REGULAR:
		return nil
	case guestv1.FileType_FILE_TYPE_DIRECTORY:
		return fail("open", entry.GetPath(), unix.EISDIR)
	}
	return fail("open", entry.GetPath(), errNotRegular)
}

// sendRange sends from offset on, limit bytes at most; a range beyond the end of
// the file is empty.
func sendRange(
	ctx context.Context, fd int, msg *guestv1.FilesystemReadRequest,
	stream *connect.ServerStream[guestv1.FilesystemReadResponse],
) error {
	buf := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buf)
	offset, left := msg.GetOffset(), msg.GetLimit()
	if left == 0 {
		left = math.MaxUint64
	}
	data := &guestv1.FilesystemReadResponse_Data{}
	for left > 0 && offset <= math.MaxInt64-pieceSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		var n int
		err := retry(func() (err error) {
			n, err = unix.Pread(fd, buf[:min(left, pieceSize)], int64(offset))
			return err
		})
		if err != nil {
			return fail("read", msg.GetPath(), err)
		}
		if n == 0 {
			return nil
		}
		data.Data = buf[:n]
		// Send is done with the bytes when it returns.
		if err := stream.Send(&guestv1.FilesystemReadResponse{Message: data}); err != nil {
			return err
		}
		offset += uint64(n)
		left -= uint64(n)
	}
	return nil
}
