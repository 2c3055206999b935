// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"crypto/rand"
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	tempPrefix  = ".waggle-"
	tempRandom  = 26 // letters and digits of rand.Text
	defaultMode = 0o644
	// maxLinks is the kernel's own bound (path_resolution(7)).
	maxLinks = 40
)

// target is a file that is being written. The directory is held open, so that a
// rename of one of its parents does not lead the commit elsewhere.
type target struct {
	path string // as asked for
	dir  int    // -1 when the file itself is open
	name string // in dir
	temp string // in dir; empty when there is none
	fd   int

	exclusive bool
	mode      uint32
	owner     *guestv1.Entry // the file that is replaced, nil for a new one
}

// openTarget opens what a write goes to. It runs with the rights of the user.
func openTarget(ask *guestv1.WriteOpen) (*target, error) {
	t := &target{path: ask.GetPath(), dir: -1, fd: -1, exclusive: ask.GetExclusive(), mode: defaultMode}
	real := ask.GetPath()
	var err error
	if !t.exclusive {
		// For an exclusive write a link is a file that exists.
		if real, err = follow(real); err != nil {
			return nil, err
		}
	}
	dir, name := path.Split(strings.TrimRight(real, "/"))
	if name == "" || name == "." || name == ".." {
		return nil, fail("open", ask.GetPath(), unix.EISDIR)
	}
	if ask.GetMakeParents() {
		if err := makeParents(dir); err != nil {
			return nil, err
		}
	}
	t.name = name
	if t.dir, err = open(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0); errors.Is(err, unix.EACCES) {
		// A directory that may be passed but not listed.
		t.dir, err = open(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return nil, fail("open", dir, err)
	}
	if ask.GetAppend() {
		err = t.openAppend(ask)
	} else {
		err = t.openTemp(ask)
	}
	if err != nil {
		_ = t.abandon() // as for any write that fails
		t.close()
		return nil, err
	}
	return t, nil
}

// follow returns where the last name of p leads, which need not exist.
func follow(p string) (string, error) {
	buf := make([]byte, maxPath)
	real := p
	for range maxLinks {
		n, err := unix.Readlink(strings.TrimRight(real, "/"), buf)
		if err != nil {
			// EINVAL: no link. Other errors come again, with more to say, when
			// the file is opened.
			return real, nil
		}
		link := string(buf[:n])
		if !path.IsAbs(link) {
			// Joined, not cleaned: a parent may be a link too.
			dir, _ := path.Split(strings.TrimRight(real, "/"))
			link = dir + link
		}
		real = link
	}
	return "", fail("open", p, unix.ELOOP)
}

// makeParents makes dir and what is missing above it.
func makeParents(dir string) error {
	for i := 1; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		err := unix.Mkdir(dir[:i], 0o755)
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EROFS) {
			return fail("mkdir", dir[:i], err)
		}
	}
	return nil
}

func (t *target) openAppend(ask *guestv1.WriteOpen) (err error) {
	mode := uint32(defaultMode)
	if ask.Mode != nil {
		mode = ask.GetMode()
	}
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_APPEND | unix.O_NONBLOCK | unix.O_NOCTTY
	if t.fd, err = open(t.dir, t.name, flags, mode); err != nil {
		return fail("open", t.path, err)
	}
	entry, err := entryOf(t.fd, t.path)
	if err != nil {
		return err
	}
	if ask.Mode != nil {
		t.mode = ask.GetMode()
	} else {
		t.mode = entry.GetMode()
	}
	return wantRegular(entry)
}

// openTemp makes the temporary file, after a look at the file that it replaces:
// who may not write to that file may not replace it either.
func (t *target) openTemp(ask *guestv1.WriteOpen) error {
	if err := t.look(); err != nil {
		return err
	}
	if t.owner != nil {
		t.mode = t.owner.GetMode() & 0o777
	}
	if ask.Mode != nil {
		t.mode = ask.GetMode()
	}
	temp := tempName()
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
	fd, err := open(t.dir, temp, flags, 0o600)
	if err != nil {
		return fail("open", t.path, err)
	}
	t.fd, t.temp = fd, temp
	return t.mayChmod(ask)
}

// mayChmod refuses what chmod(2) would: a mode for a file of somebody else, which
// the write replaces but does not give away.
func (t *target) mayChmod(ask *guestv1.WriteOpen) error {
	if t.owner == nil || ask.Mode == nil || ask.GetMode() == t.owner.GetMode()&0o777 || ask.GetAsRoot() {
		return nil
	}
	mine, err := entryOf(t.fd, t.path)
	if err == nil && mine.GetUid() != t.owner.GetUid() {
		err = fail("chmod", t.path, unix.EPERM)
	}
	return err
}

func tempName() string { return tempPrefix + rand.Text() }

// isTemp says whether p is a name that tempName makes.
func isTemp(p string) bool {
	name := path.Base(p)
	return len(name) == len(tempPrefix)+tempRandom && strings.HasPrefix(name, tempPrefix)
}

func (t *target) look() error {
	fd, err := open(t.dir, t.name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW, 0)
	switch {
	case t.exclusive && (err == nil || !errors.Is(err, unix.ENOENT)):
		if err == nil {
			_ = unix.Close(fd) // nothing was written
		}
		return fail("open", t.path, unix.EEXIST)
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ETXTBSY):
		// A program that runs can be replaced, though not written to.
		t.owner, err = entryAt(t.dir, t.name, t.path, true)
		return err
	case errors.Is(err, unix.ENXIO):
		// A FIFO without a reader, or a socket.
		return fail("open", t.path, errNotRegular)
	case err != nil:
		return fail("open", t.path, err)
	}
	defer unix.Close(fd)
	entry, err := entryOf(fd, t.path)
	if err != nil {
		return err
	}
	t.owner = entry
	return wantRegular(entry)
}
