// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import "golang.org/x/sys/unix"

// archTries are what only this architecture has.
var archTries = []try{
	{"ioperm", func() error { return unix.Ioperm(0x80, 1, 1) }},
	{"iopl", func() error { return unix.Iopl(3) }},
	{"x32 getpid", func() error { return call(0x40000000 | unix.SYS_GETPID) }},
	{"x32 mount", func() error { return call(0x40000000 | unix.SYS_MOUNT) }},
}

// int80 makes a system call of the 32-bit ABI without arguments.
func int80(nr uintptr) uintptr

// i386 asks for the process id by the 32-bit ABI.
func i386() error {
	if pid := int80(20); int32(pid) < 0 {
		return unix.Errno(-int32(pid))
	}
	return nil
}
