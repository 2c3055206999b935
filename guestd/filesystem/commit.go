// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"golang.org/x/sys/unix"
)

// settle gives the file its mode and writes it to the disk. It runs with the rights
// of the user.
func (t *target) settle() error {
	if err := unix.Fchmod(t.fd, t.mode); err != nil && t.temp != "" {
		return fail("chmod", t.path, err)
	}
	return fail("fsync", t.path, retry(func() error { return unix.Fsync(t.fd) }))
}

// keepOwner gives the file to the owner and group of the one that it replaces. It
// runs with guestd's rights: who may write to a file of somebody else changes its
// content and not its owner, and the temporary file must not show. No bits go along
// that the user could not have set (see openTemp), and chown(2) clears setuid.
func (t *target) keepOwner() error {
	if t.temp == "" || t.owner == nil {
		return nil
	}
	err := unix.Fchown(t.fd, int(t.owner.GetUid()), int(t.owner.GetGid()))
	if err == unix.EPERM {
		return nil // guestd is no root here, and has one user only
	}
	return fail("chown", t.path, err)
}

// publish gives the file its name, with the rights of the user.
func (t *target) publish() error {
	if t.temp == "" {
		return nil
	}
	flags := uint(0)
	if t.exclusive {
		flags = unix.RENAME_NOREPLACE
	}
	if err := unix.Renameat2(t.dir, t.temp, t.dir, t.name, flags); err != nil {
		return fail("rename", t.path, err)
	}
	t.temp = ""
	return nil
}

// abandon removes the temporary file, with guestd's rights: it may be somebody
// else's by now, in a directory with the sticky bit.
func (t *target) abandon() error {
	if t.temp == "" {
		return nil
	}
	return fail("unlink", t.path, unix.Unlinkat(t.dir, t.temp, 0))
}

// close releases the descriptors.
func (t *target) close() {
	for _, fd := range []int{t.fd, t.dir} {
		if fd >= 0 {
			_ = unix.Close(fd) // data was synced, or is not wanted
		}
	}
}
