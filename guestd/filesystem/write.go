// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/bulk"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// maxWriteData bounds the data of a message in bytes.
const maxWriteData = 1 << 20

// Write replaces a file, or appends to it.
func (s *Service) Write(
	_ context.Context, stream *connect.ClientStream[guestv1.FilesystemWriteRequest],
) (*connect.Response[guestv1.FilesystemWriteResponse], error) {
	if !stream.Receive() {
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, invalid("open", "is required as the first message")
	}
	ask := stream.Msg().GetOpen()
	if err := checkOpen(ask); err != nil {
		return nil, err
	}
	var t *target
	err := s.as(ask.GetAsRoot(), func() (err error) {
		t, err = openTarget(ask)
		return err
	})
	if err != nil {
		return nil, answer(err)
	}
	defer t.close()
	written, err := receive(stream, t)
	if err == nil && ask.Size != nil && written != ask.GetSize() {
		err = invalid("size", "is %d, but %d bytes came", ask.GetSize(), written)
	}
	if err == nil {
		err = s.commit(ask.GetAsRoot(), t)
	}
	if err != nil {
		_ = t.abandon() // the temporary file goes in any case; that error matters less
		return nil, answer(err)
	}
	entry, err := entryOf(t.fd, ask.GetPath())
	if err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(&guestv1.FilesystemWriteResponse{Entry: entry, BytesWritten: written}), nil
}

// commit makes what was written the file.
func (s *Service) commit(asRoot bool, t *target) error {
	if err := s.as(asRoot, t.settle); err != nil {
		return err
	}
	if err := t.keepOwner(); err != nil {
		return err
	}
	return s.as(asRoot, t.publish)
}

func checkOpen(ask *guestv1.WriteOpen) error {
	if ask == nil {
		return invalid("open", "is required as the first message")
	}
	if err := checkPath("open.path", ask.GetPath()); err != nil {
		return err
	}
	if ask.GetMode()&^0o777 != 0 {
		return invalid("open.mode", "has bits besides 0777")
	}
	if ask.GetExclusive() && ask.GetAppend() {
		return invalid("open.append", "cannot go with exclusive")
	}
	return nil
}

// receive writes what comes until the client closes its side.
func receive(stream *connect.ClientStream[guestv1.FilesystemWriteRequest], t *target) (written uint64, err error) {
	for stream.Receive() {
		message, ok := stream.Msg().GetMessage().(*guestv1.FilesystemWriteRequest_Data)
		if !ok {
			return written, connect.NewError(connect.CodeInvalidArgument,
				errors.New("data: every message but the first carries data"))
		}
		data := message.Data
		if len(data) > maxWriteData {
			return written, invalid("data", "is longer than %d bytes", maxWriteData)
		}
		for len(data) > 0 {
			var n int
			err := retry(func() (err error) {
				n, err = unix.Write(t.fd, data)
				return err
			})
			if err != nil {
				return written, fail("write", t.path, err)
			}
			data = data[n:]
			written += uint64(n)
		}
		bulk.Release(message.Data)
	}
	if err := stream.Err(); err != nil {
		return written, fmt.Errorf("receive data: %w", err)
	}
	return written, nil
}
