// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// maxWatches bounds the directories of one Watch; each costs the kernel
	// about 1 KiB.
	maxWatches = 8192
	// maxCreated bounds what one new directory reports at once.
	maxCreated = 10_000
	// pairTime is how long the first half of a move waits for the second: both
	// are queued at once, but a read may end between them.
	pairTime = 20 * time.Millisecond

	watchMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB |
		unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF |
		unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK
)

// Watch streams changes. A client that does not read stops the reading of the
// kernel's queue, which then overflows: memory here is bounded by maxWatches.
func (s *Service) Watch(
	ctx context.Context, req *connect.Request[guestv1.FilesystemWatchRequest],
	stream *connect.ServerStream[guestv1.FilesystemWatchResponse],
) error {
	root := req.Msg.GetPath()
	if err := checkPath("path", root); err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return answer(fail("inotify_init", root, err))
	}
	w := &watch{
		service: s, asRoot: req.Msg.GetAsRoot(), recursive: req.Msg.GetRecursive(),
		file: os.NewFile(uintptr(fd), "inotify"), root: clean(root),
		paths: map[int32]string{}, send: stream.Send,
	}
	defer func() { _ = w.file.Close() }() // nothing was written
	stop := context.AfterFunc(ctx, func() { _ = w.file.Close() })
	defer stop()
	err = s.as(w.asRoot, func() error { return w.cover(w.root, nil) })
	if err != nil {
		return answer(err)
	}
	if err := w.report(guestv1.ChangeKind_CHANGE_KIND_WATCHING, w.root, ""); err != nil {
		return err
	}
	err = w.follow()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return answer(err)
}

// clean takes trailing slashes away, so that names can be appended.
func clean(p string) string {
	for len(p) > 1 && p[len(p)-1] == '/' {
		p = p[:len(p)-1]
	}
	return p
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

// watch is one Watch. It belongs to one goroutine.
type watch struct {
	service           *Service
	asRoot, recursive bool
	file              *os.File // of the inotify descriptor; closed when the client goes
	root              string
	paths             map[int32]string // by watch descriptor
	send              func(*guestv1.FilesystemWatchResponse) error
	pending           *event // the first half of a move
}

// errFull is more directories than one Watch may have.
var errFull = connect.NewError(connect.CodeResourceExhausted,
	fmt.Errorf("path: has more than %d directories below it; watch parts of it", maxWatches))

// add watches one directory. The descriptor may be closed at any time, so that
// its number alone must not be used.
func (w *watch) add(dir string) error {
	if len(w.paths) >= maxWatches {
		return errFull
	}
	conn, err := w.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch directory: %w", err)
	}
	var wd int
	cerr := conn.Control(func(fd uintptr) { wd, err = unix.InotifyAddWatch(int(fd), dir, watchMask) })
	switch {
	case cerr != nil:
		return fmt.Errorf("watch directory: %w", cerr)
	case errors.Is(err, unix.ENOSPC):
		return errFull
	case err != nil:
		return fail("inotify_add_watch", dir, err)
	}
	w.paths[int32(wd)] = dir
	return nil
}

// cover watches a directory and, recursively, those in it. It runs with the
// rights of the user. found is told what is in them. Directories below that have
// gone, or may not be read, are passed over.
func (w *watch) cover(dir string, found func(path string)) error {
	if err := w.add(dir); err != nil || !w.recursive {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && dir == w.root {
		return fail("readdir", dir, errors.Unwrap(err))
	}
	for _, entry := range entries {
		at := join(dir, entry.Name())
		if found != nil {
			found(at)
		}
		if !entry.IsDir() {
			continue
		}
		var gone *fileError
		if err := w.cover(at, found); err != nil && !errors.As(err, &gone) {
			return err
		}
	}
	return nil
}

// coverNew covers a directory that has appeared, and reports what is in it: it
// may have been made before the watch stood, and is reported twice when it was
// not. What is too much is an overflow.
func (w *watch) coverNew(dir string) error {
	var created []string
	full := false
	err := w.service.as(w.asRoot, func() error {
		return w.cover(dir, func(path string) {
			if full = len(created) >= maxCreated; !full {
				created = append(created, path)
			}
		})
	})
	var gone *fileError
	if err != nil && !errors.As(err, &gone) && !errors.Is(err, errFull) {
		return err
	}
	for _, path := range created {
		if err := w.report(guestv1.ChangeKind_CHANGE_KIND_CREATED, path, ""); err != nil {
			return err
		}
	}
	if full || errors.Is(err, errFull) {
		return w.report(guestv1.ChangeKind_CHANGE_KIND_OVERFLOW, dir, "")
	}
	return nil
}

// report sends a change. The file in which a write collects its data is not told
// of: the one that it becomes appears.
func (w *watch) report(kind guestv1.ChangeKind, path, from string) error {
	if isTemp(from) {
		kind, from = guestv1.ChangeKind_CHANGE_KIND_CREATED, ""
	} else if isTemp(path) {
		return nil
	}
	res := &guestv1.FilesystemWatchResponse{Kind: kind, Path: display(path)}
	if from != "" {
		res.FromPath = display(from)
	}
	return w.send(res)
}
