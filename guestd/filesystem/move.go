// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Move renames a file or a directory within one file system.
func (s *Service) Move(
	_ context.Context, req *connect.Request[guestv1.FilesystemMoveRequest],
) (*connect.Response[guestv1.FilesystemMoveResponse], error) {
	msg := req.Msg
	if err := checkPath("from", msg.GetFrom()); err != nil {
		return nil, err
	}
	if err := checkPath("to", msg.GetTo()); err != nil {
		return nil, err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if msg.GetOverwrite() {
		flags = 0
	}
	res := &guestv1.FilesystemMoveResponse{}
	err := s.as(msg.GetAsRoot(), func() (err error) {
		err = unix.Renameat2(unix.AT_FDCWD, msg.GetFrom(), unix.AT_FDCWD, msg.GetTo(), flags)
		if err != nil {
			path := msg.GetFrom()
			if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
				path = msg.GetTo()
			}
			return fail("rename", path, err)
		}
		res.Entry, err = entryAt(unix.AT_FDCWD, msg.GetTo(), msg.GetTo(), true)
		return err
	})
	if err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(res), nil
}
