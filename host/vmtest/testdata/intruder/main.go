// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command intruder tries in a guest what a command must not be able to do, and some
// of what it must. It prints a line for each try: its name, and the name of the
// error or "ok". With an argument it makes that one try, which may end it.
package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// try is one thing to do; nil means that it can be done.
type try struct {
	name string
	do   func() error
}

func main() {
	tables := [][]try{kernelTries, mountTries, namespaceTries, guestdTries, fileTries, limitTries, permittedTries, archTries}
	for _, table := range tables {
		for _, t := range table {
			if len(os.Args) == 1 {
				fmt.Println(t.name, result(t.do()))
			}
		}
	}
	if len(os.Args) > 1 {
		fmt.Println(os.Args[1], result(alone[os.Args[1]]()))
	}
}

func result(err error) string {
	if err == nil {
		return "ok"
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// call makes a system call with up to six arguments.
func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

// opened opens a file and closes it again.
func opened(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// written writes text to a file that exists.
func written(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

func socket(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
