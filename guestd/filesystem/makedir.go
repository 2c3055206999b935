// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// MakeDir makes a directory.
func (s *Service) MakeDir(
	_ context.Context, req *connect.Request[guestv1.FilesystemMakeDirRequest],
) (*connect.Response[guestv1.FilesystemMakeDirResponse], error) {
	msg := req.Msg
	if err := checkPath("path", msg.GetPath()); err != nil {
		return nil, err
	}
	mode := uint32(0o755)
	if msg.Mode != nil {
		mode = msg.GetMode()
	}
	if mode&^0o7777 != 0 {
		return nil, invalid("mode", "has bits besides 07777")
	}
	res := &guestv1.FilesystemMakeDirResponse{}
	err := s.as(msg.GetAsRoot(), func() (err error) {
		res.Entry, err = makeDir(msg.GetPath(), mode, msg.GetParents())
		return err
	})
	if err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(res), nil
}

func makeDir(path string, mode uint32, parents bool) (*guestv1.Entry, error) {
	if parents {
		trimmed := strings.TrimRight(path, "/")
		if err := makeParents(trimmed[:strings.LastIndexByte(trimmed, '/')+1]); err != nil {
			return nil, err
		}
	}
	err := unix.Mkdir(path, mode)
	made := err == nil
	if err != nil && !(parents && errors.Is(err, unix.EEXIST)) {
		return nil, fail("mkdir", path, err)
	}
	if made {
		// mkdir(2) leaves out the bits of the umask.
		if err := unix.Chmod(path, mode); err != nil {
			return nil, fail("chmod", path, err)
		}
	}
	entry, err := entryAt(unix.AT_FDCWD, path, path, false)
	if err == nil && entry.GetType() != guestv1.FileType_FILE_TYPE_DIRECTORY {
		err = fail("mkdir", path, unix.EEXIST)
	}
	return entry, err
}
