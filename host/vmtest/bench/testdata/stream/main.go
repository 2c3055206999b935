// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command stream is the guest's end of a stream that is measured:
//
//	stream vsock|stdio sink|source BYTES
//
// The stream is a plain vsock connection to the host, or what guestd makes of
// its standard streams; all else is the same. A sink says by one byte that it is
// there, copies BYTES to /dev/null and says so by another byte. A source waits
// for a byte and sends BYTES.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// hostPort is the one that the host listens on, vm.ReadyPort.
const hostPort = 1025

const pieceSize = 64 << 10

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stream:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: stream vsock|stdio sink|source BYTES")
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	in, out := unix.Stdin, unix.Stdout
	if args[0] == "vsock" {
		if in, err = dial(); err != nil {
			return fmt.Errorf("dial the host: %w", err)
		}
		out = in
	}
	if args[1] == "sink" {
		return sink(in, out, n)
	}
	return source(in, out, n)
}

func dial() (int, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: hostPort})
}

func sink(in, out, n int) error {
	null, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := write(out, []byte{'r'}); err != nil {
		return err
	}
	buf := make([]byte, pieceSize)
	for n > 0 {
		got, err := unix.Read(in, buf)
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
	_, err := unix.Read(in, buf[:1]) // until the host has all and closes
	return err
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
