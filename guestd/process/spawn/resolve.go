// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// maxPath bounds the directories of PATH that are looked at.
const maxPath = 256

// resolve finds the program that cmd names, as the user would. It runs on a
// launcher thread and lends it that user's rights to files for the while.
func resolve(cmd *Command) (string, *Failure) {
	restore, err := borrow(cmd.User)
	if err != nil {
		return "", NewFailure("change user", err)
	}
	defer restore()
	if fail := checkDir(cmd.Dir); fail != nil {
		return "", fail
	}
	name := cmd.Argv[0]
	if strings.ContainsRune(name, '/') {
		if !filepath.IsAbs(name) {
			name = filepath.Join(cmd.Dir, name)
		}
		if err := executable(name); err != nil {
			return "", programFailure(name, err)
		}
		return name, nil
	}
	return lookPath(name, cmd)
}

func checkDir(dir string) *Failure {
	// What it is comes first: of a plain file the kernel only says EACCES.
	info, err := os.Stat(dir)
	switch {
	case err != nil:
	case !info.IsDir():
		err = unix.ENOTDIR
	default:
		err = unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS)
	}
	if err == nil {
		return nil
	}
	f := NewFailure("chdir", err)
	f.Kind = guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_CWD
	f.Message = fmt.Sprintf("working directory %s: %v", dir, f.Errno)
	return f
}

// lookPath goes along PATH. As execvp(3) does, it goes on after a file that may
// not be executed and remembers it for the case that there is no other.
func lookPath(name string, cmd *Command) (string, *Failure) {
	path := pathOf(cmd.Env)
	var denied *Failure
	for i, dir := range filepath.SplitList(path) {
		if i == maxPath {
			break
		}
		if !filepath.IsAbs(dir) { // an empty element is the working directory
			dir = filepath.Join(cmd.Dir, dir)
		}
		file := filepath.Join(dir, name)
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if errors.Is(err, unix.EACCES) && denied == nil && exists(file) {
			denied = programFailure(file, err)
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", &Failure{
		Kind:    guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND,
		Errno:   unix.ENOENT,
		Stage:   "resolve program",
		Message: fmt.Sprintf("program %q is not found along PATH=%s", name, path),
	}
}

// Find returns the file that a command would run by the name of program, or "". It
// looks with guestd's own rights: whether the user may run it shows when it is run.
func Find(program string, cmd *Command) string {
	files := []string{program}
	if !filepath.IsAbs(program) {
		files = nil
		for _, dir := range filepath.SplitList(pathOf(cmd.Env)) {
			if filepath.IsAbs(dir) && len(files) < maxPath {
				files = append(files, filepath.Join(dir, program))
			}
		}
	}
	for _, file := range files {
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// pathOf is the value of PATH, the last one as for execvp(3).
func pathOf(env []string) string {
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	return path
}

// executable says whether the thread's user may execute a file.
func executable(file string) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EACCES // what execve(2) says of a directory
	}
	return unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS)
}

func exists(file string) bool {
	var st unix.Stat_t
	return unix.Stat(file, &st) == nil
}

func programFailure(file string, err error) *Failure {
	f := NewFailure("resolve program", err)
	f.Message = fmt.Sprintf("program %s: %v", file, err)
	switch f.Errno {
	case unix.ENOENT, unix.ENOTDIR:
		f.Kind = guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND
	case unix.EACCES, unix.EPERM:
		f.Kind = guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_PERMISSION
	}
	return f
}

// borrow gives the calling thread the user's view of the file system: fsuid,
// fsgid and groups, which in Linux belong to the thread. The kernel takes the
// capabilities that override file permissions away with an fsuid other than 0
// and gives them back with 0 (capabilities(7)). The raw system calls are meant:
// the wrappers of package syscall would change every thread.
func borrow(u *User) (restore func(), err error) {
	if os.Geteuid() != 0 {
		return func() {}, nil
	}
	before, err := unix.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	own := make([]uint32, len(before))
	for i, g := range before {
		own[i] = uint32(g)
	}
	if err := setgroups(u.Groups); err != nil {
		return nil, fmt.Errorf("set groups: %w", err)
	}
	setfs := func(uid, gid uint32) {
		// Both return the previous id and no error (setfsuid(2)).
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, uintptr(gid), 0, 0)
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	}
	setfs(u.UID, u.GID)
	return func() {
		setfs(0, uint32(os.Getegid()))
		_ = setgroups(own) // cannot fail for root, who set others before
	}, nil
}

func setgroups(groups []uint32) error {
	var p unsafe.Pointer
	if len(groups) > 0 {
		p = unsafe.Pointer(&groups[0])
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
