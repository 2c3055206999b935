// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"golang.org/x/sys/unix"
)

// commit gives the file its mode and owner, writes it to the disk and gives it
// its name. It runs with the rights of the user, who may not give files away:
// the owner of a file of somebody else is then not kept.
func (t *target) commit() error {
	if t.owner != nil && t.temp != "" {
		if err := t.keepOwner(); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(t.fd, t.mode); err != nil && t.temp != "" {
		return fail("chmod", t.path, err)
	}
	if err := retry(func() error { return unix.Fsync(t.fd) }); err != nil {
		return fail("fsync", t.path, err)
	}
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

// keepOwner sets owner and group of the replaced file. Root can always; another
// user can keep a group of its own.
func (t *target) keepOwner() error {
	uid, gid := int(t.owner.GetUid()), int(t.owner.GetGid())
	err := unix.Fchown(t.fd, uid, gid)
	if err == unix.EPERM {
		err = unix.Fchown(t.fd, -1, gid)
	}
	if err == unix.EPERM {
		return nil
	}
	return fail("chown", t.path, err)
}

// abandon removes the temporary file.
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
