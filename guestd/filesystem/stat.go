// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"context"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Stat describes one file.
func (s *Service) Stat(
	_ context.Context, req *connect.Request[guestv1.FilesystemStatRequest],
) (*connect.Response[guestv1.FilesystemStatResponse], error) {
	msg := req.Msg
	if err := checkPath("path", msg.GetPath()); err != nil {
		return nil, err
	}
	res := &guestv1.FilesystemStatResponse{}
	err := s.as(msg.GetAsRoot(), func() (err error) {
		res.Entry, err = entryAt(unix.AT_FDCWD, msg.GetPath(), msg.GetPath(), msg.GetNoFollow())
		return err
	})
	if err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(res), nil
}
