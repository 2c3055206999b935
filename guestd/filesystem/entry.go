// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"errors"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// blockSize is the unit of st_blocks in bytes, on every file system (stat(2)).
const blockSize = 512

// types of files by the bits of st_mode.
var types = map[uint32]guestv1.FileType{
	unix.S_IFREG:  guestv1.FileType_FILE_TYPE_REGULAR,
	unix.S_IFDIR:  guestv1.FileType_FILE_TYPE_DIRECTORY,
	unix.S_IFLNK:  guestv1.FileType_FILE_TYPE_SYMLINK,
	unix.S_IFIFO:  guestv1.FileType_FILE_TYPE_FIFO,
	unix.S_IFSOCK: guestv1.FileType_FILE_TYPE_SOCKET,
	unix.S_IFCHR:  guestv1.FileType_FILE_TYPE_CHAR_DEVICE,
	unix.S_IFBLK:  guestv1.FileType_FILE_TYPE_BLOCK_DEVICE,
}

// display makes a name fit for proto3: each byte that is not UTF-8 becomes
// U+FFFD.
func display(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return string([]rune(name))
}

func newEntry(path string, st *unix.Stat_t) *guestv1.Entry {
	entry := &guestv1.Entry{
		Path:           display(path),
		Type:           types[st.Mode&unix.S_IFMT],
		Size:           uint64(st.Size),
		Mode:           st.Mode & 0o7777,
		Uid:            st.Uid,
		Gid:            st.Gid,
		ModifiedAt:     &timestamppb.Timestamp{Seconds: st.Mtim.Sec, Nanos: int32(st.Mtim.Nsec)},
		AllocatedBytes: uint64(st.Blocks) * blockSize,
	}
	if entry.Path != path {
		entry.PathBytes = []byte(path)
	}
	return entry
}

// entryAt describes the file name in the directory dir; path is what it is
// called in the answer. With the error of a link that cannot be read comes the entry
// without its target.
func entryAt(dir int, name, path string, noFollow bool) (*guestv1.Entry, error) {
	flags := 0
	if noFollow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(dir, name, &st, flags) }); err != nil {
		return nil, fail("stat", path, err)
	}
	entry := newEntry(path, &st)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		buf := make([]byte, maxPath)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return entry, fail("readlink", path, err)
		}
		entry.LinkTarget = display(string(buf[:n]))
	}
	return entry, nil
}

// entryOf describes an open file.
func entryOf(fd int, path string) (*guestv1.Entry, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fail("stat", path, err)
	}
	return newEntry(path, &st), nil
}

// retry repeats a call that a signal interrupted: the Go runtime sends some.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// open opens a file relative to dir with O_CLOEXEC.
func open(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}
