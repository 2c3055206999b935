// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// hostPort is the one that the host listens on, vm.ReadyPort.
	hostPort = 1025
	// dialLimit is beyond any boot.
	dialLimit = 2 * time.Minute
	dialRetry = 50 * time.Millisecond
	// null is /dev/null for a process that stays in the initial file system, out
	// of which guestd moves /dev.
	null = "/null"
)

// becomeGuestd starts the plain stream's process and then guestd in this one.
func becomeGuestd() error {
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}}
	if _, err := syscall.ForkExec("/init", []string{"/init", "raw"}, attr); err != nil {
		return fmt.Errorf("start raw: %w", err)
	}
	guestd, err := appended("/init")
	if err != nil {
		return fmt.Errorf("read guestd: %w", err)
	}
	fd, err := unix.MemfdCreate("guestd", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make place for guestd: %w", err)
	}
	if err := write(fd, guestd); err != nil {
		return fmt.Errorf("place guestd: %w", err)
	}
	return execute(fd, os.Args, os.Environ())
}

// appended returns what lies behind the program in its own file: the bytes, and
// then their number in 8 bytes.
func appended(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	end := len(data) - 8
	return data[end-int(binary.LittleEndian.Uint64(data[end:])) : end], nil
}

// execute is fexecve(3), which needs no /proc.
func execute(fd int, args, env []string) error {
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	empty, err := syscall.BytePtrFromString("")
	if err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envp[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("execute guestd: %w", errno)
}

// serveHost does what the host asks for, one after the other: 's' or 'o' for
// sink or source, and the number of bytes in 8 bytes. Its first byte tells the
// host that it is not guestd, whose first message is never empty.
func serveHost() error {
	if err := unix.Mknod(null, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		return fmt.Errorf("make %s: %w", null, err)
	}
	fd, err := dial()
	if err != nil {
		return fmt.Errorf("dial the host: %w", err)
	}
	if err := write(fd, []byte{0}); err != nil {
		return err
	}
	for {
		var ask [9]byte
		for got := 0; got < len(ask); {
			n, err := unix.Read(fd, ask[got:])
			if err != nil || n == 0 {
				return err // the host has gone
			}
			got += n
		}
		n := int(binary.LittleEndian.Uint64(ask[1:]))
		if ask[0] == 's' {
			err = sink(fd, fd, n, null)
		} else {
			err = source(fd, fd, n)
		}
		if err != nil {
			return err
		}
	}
}

// dial waits for guestd to have loaded the modules.
func dial() (int, error) {
	tick := time.NewTicker(dialRetry)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			if err = unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: hostPort}); err == nil {
				return fd, nil
			}
			_ = unix.Close(fd)
		}
		if time.Since(began) > dialLimit {
			return -1, err
		}
	}
}
