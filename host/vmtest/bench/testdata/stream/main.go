// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command stream is the guest's end of the streams that are measured.
//
//	stream sink|source BYTES   over the standard streams
//	stream raw                 over a plain vsock connection to the host
//	stream                     as the first process of a machine
//
// A sink says by one byte that it is there, copies BYTES to /dev/null and says so
// by another byte. A source waits for a byte and sends BYTES. Over vsock the host
// says in front of each which one it wants.
//
// Workloads may not open vsock sockets. So this is also /init: it starts itself
// as raw, and puts guestd, which is appended to it, in its place.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const pieceSize = 64 << 10

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stream:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case os.Getpid() == 1:
		return becomeGuestd()
	case len(args) == 1 && args[0] == "raw":
		return serveHost()
	case len(args) != 2:
		return errors.New("usage: stream sink|source BYTES")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if args[0] == "sink" {
		return sink(unix.Stdin, unix.Stdout, n, "/dev/null")
	}
	if err := source(unix.Stdin, unix.Stdout, n); err != nil {
		return err
	}
	_, err = unix.Read(unix.Stdin, make([]byte, 1)) // until the host has all
	return err
}

func sink(in, out, n int, path string) error {
	null, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	if err := write(out, []byte{'r'}); err != nil {
		return err
	}
	buf := make([]byte, pieceSize)
	for n > 0 {
		got, err := unix.Read(in, buf[:min(n, pieceSize)])
		if err != nil {
			return err
		}
		if got == 0 {
			return fmt.Errorf("%d bytes are missing", n)
		}
		if err := write(null, buf[:got]); err != nil {
			return err
		}
		n -= got
	}
	return write(out, []byte{'d'})
}

func source(in, out, n int) error {
	buf := make([]byte, pieceSize)
	if _, err := unix.Read(in, buf[:1]); err != nil {
		return err
	}
	for ; n > 0; n -= pieceSize {
		if err := write(out, buf[:min(n, pieceSize)]); err != nil {
			return err
		}
	}
	return nil
}

func write(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}
