// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// maxTree bounds how deep a tree is removed: each level holds a descriptor.
const maxTree = 1000

// Remove removes a file or a directory.
func (s *Service) Remove(
	ctx context.Context, req *connect.Request[guestv1.FilesystemRemoveRequest],
) (*connect.Response[guestv1.FilesystemRemoveResponse], error) {
	msg := req.Msg
	if err := checkPath("path", msg.GetPath()); err != nil {
		return nil, err
	}
	dir, name := path.Split(strings.TrimRight(msg.GetPath(), "/"))
	if name == "" || name == "." || name == ".." {
		return nil, invalid("path", "%q is not the name of a file in a directory", msg.GetPath())
	}
	r := &remover{ctx: ctx}
	err := s.as(msg.GetAsRoot(), func() error {
		fd, err := open(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return fail("open", dir, err)
		}
		defer unix.Close(fd)
		return r.remove(fd, name, msg.GetPath(), msg.GetRecursive(), 0)
	})
	if err != nil && !(msg.GetMissingOk() && errors.Is(err, unix.ENOENT)) {
		return nil, answer(err)
	}
	return connect.NewResponse(&guestv1.FilesystemRemoveResponse{Removed: r.removed}), nil
}

// remover removes trees. It never follows a link: each step names a file in a
// directory that is held open.
type remover struct {
	ctx     context.Context // of the request
	removed uint64
}

func (r *remover) remove(dir int, name, full string, recursive bool, level int) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	err := unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EISDIR) {
		if recursive {
			if err := r.empty(dir, name, full, level); err != nil {
				return err
			}
		}
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	if err != nil {
		return fail("unlink", full, err)
	}
	r.removed++
	return nil
}

// empty removes what is in a directory.
func (r *remover) empty(dir int, name, full string, level int) error {
	if level >= maxTree {
		return fail("open", full, unix.ENAMETOOLONG)
	}
	fd, err := open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fail("open", full, err)
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	for {
		// Removal moves what is behind in some file systems, so that each round
		// reads from the beginning.
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return fail("seek", full, err)
		}
		names, err := f.Readdirnames(readBatch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fail("readdir", full, err)
		}
		for _, child := range names {
			err := r.remove(fd, child, full+"/"+child, true, level+1)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
}
