// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// event is one of the kernel's (inotify(7)).
type event struct {
	wd           int32
	mask, cookie uint32
	path         string // of what it is about
}

func (e *event) is(bits uint32) bool { return e.mask&bits != 0 }

// errRootGone ends a Watch whose directory is no longer there.
var errRootGone = errors.New("the watched directory is gone")

// follow reports events until the directory is gone or the file is closed.
func (w *watch) follow() error {
	buf := make([]byte, 64<<10)
	for {
		var deadline time.Time
		if w.pending != nil {
			deadline = time.Now().Add(pairTime)
		}
		if err := w.file.SetReadDeadline(deadline); err != nil {
			return fmt.Errorf("read changes: %w", err)
		}
		n, err := w.file.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = w.unpaired()
		case err != nil:
			return fmt.Errorf("read changes: %w", err)
		default:
			err = w.events(buf[:n])
		}
		if errors.Is(err, errRootGone) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// events takes what one read returned: whole events.
func (w *watch) events(p []byte) error {
	for len(p) >= unix.SizeofInotifyEvent {
		e := &event{
			wd:     int32(binary.NativeEndian.Uint32(p)),
			mask:   binary.NativeEndian.Uint32(p[4:]),
			cookie: binary.NativeEndian.Uint32(p[8:]),
		}
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(p[12:]))
		if size > len(p) {
			return errors.New("read changes: the kernel sent half an event")
		}
		name, _, _ := bytes.Cut(p[unix.SizeofInotifyEvent:size], []byte{0})
		p = p[size:]
		e.path = w.paths[e.wd]
		if len(name) > 0 {
			e.path = join(e.path, string(name))
		}
		if err := w.take(e); err != nil {
			return err
		}
	}
	return nil
}

// take reports one event.
func (w *watch) take(e *event) error {
	if w.pending != nil {
		if from := w.pending; e.is(unix.IN_MOVED_TO) && e.cookie == from.cookie {
			w.pending = nil
			w.rename(from.path, e.path)
			return w.report(guestv1.ChangeKind_CHANGE_KIND_MOVED, e.path, from.path)
		}
		if err := w.unpaired(); err != nil {
			return err
		}
	}
	_, known := w.paths[e.wd]
	switch {
	case e.is(unix.IN_Q_OVERFLOW):
		return w.overflowed()
	case e.is(unix.IN_IGNORED):
		delete(w.paths, e.wd)
	case !known: // a watch that was taken away, and had more to say
	case e.is(unix.IN_DELETE_SELF | unix.IN_MOVE_SELF):
		if e.path == w.root {
			if err := w.report(guestv1.ChangeKind_CHANGE_KIND_REMOVED, w.root, ""); err != nil {
				return err
			}
			return errRootGone
		}
	case e.is(unix.IN_MOVED_FROM):
		w.pending = e
	case e.is(unix.IN_CREATE | unix.IN_MOVED_TO):
		if err := w.report(guestv1.ChangeKind_CHANGE_KIND_CREATED, e.path, ""); err != nil {
			return err
		}
		if w.recursive && e.is(unix.IN_ISDIR) {
			return w.coverNew(e.path)
		}
	case e.is(unix.IN_DELETE):
		return w.report(guestv1.ChangeKind_CHANGE_KIND_REMOVED, e.path, "")
	case e.is(unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB):
		return w.report(guestv1.ChangeKind_CHANGE_KIND_MODIFIED, e.path, "")
	}
	return nil
}

// overflowed covers the tree anew, for the lost changes may have been of directories,
// and then reports: what a client lists from here on is watched.
func (w *watch) overflowed() error {
	before := w.paths
	w.paths = map[int32]string{}
	err := w.service.as(w.asRoot, func() error { return w.cover(w.root, nil) })
	if err != nil && !errors.Is(err, errFull) {
		return err
	}
	for wd := range before {
		if _, still := w.paths[wd]; !still {
			if err := w.forget(wd); err != nil {
				return err
			}
		}
	}
	return w.report(guestv1.ChangeKind_CHANGE_KIND_OVERFLOW, w.root, "")
}

// forget takes a watch away. One that has gone by itself is as well; one whose file
// is closed ends with it.
func (w *watch) forget(wd int32) error {
	delete(w.paths, wd)
	conn, err := w.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("read changes: %w", err)
	}
	_ = conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) })
	return nil
}

// unpaired reports the first half of a move whose second half lies outside.
func (w *watch) unpaired() error {
	from := w.pending
	w.pending = nil
	if from == nil {
		return nil
	}
	for wd, at := range w.paths {
		if !below(at, from.path) {
			continue
		}
		if err := w.forget(wd); err != nil {
			return err
		}
	}
	return w.report(guestv1.ChangeKind_CHANGE_KIND_REMOVED, from.path, "")
}

// rename follows directories that were moved within the tree: their watches
// belong to the inodes.
func (w *watch) rename(from, to string) {
	for wd, at := range w.paths {
		if below(at, from) {
			w.paths[wd] = to + strings.TrimPrefix(at, from)
		}
	}
}

// below says whether path is dir or lies in it.
func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
