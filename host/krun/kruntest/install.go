// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	// Library and Firmware are the sonames; the library's file has its version.
	Library     = "libkrun.so.1"
	LibraryFile = "libkrun.so.1.17.3"
	olderFile   = "libkrun.so.1.17.2"
	Firmware    = "libkrunfw.so.5"
	// Program is the guest's one program, cmd/waggle/testdata/guest, for a command
	// of it. The guest has the file system of the process that entered libkrun.
	Program = "/proc/self/fd/100"
)

const (
	// ordersMarker is where orders are written, ordersSize is their room (orders.c).
	ordersMarker = "WAGGLE DOUBLE ORDERS\n"
	ordersSize   = 4096
)

// Options say what a double lacks, and what it is told.
type Options struct {
	// Older is libkrun 1.17.2.
	Older bool
	// Bundle has no version in any name.
	Bundle bool
	// WithoutNet and WithoutBlk are builds without these devices, and their symbols.
	WithoutNet, WithoutBlk bool
	// WithoutFirmware leaves libkrunfw out, WrongFirmware has one without a kernel.
	WithoutFirmware, WrongFirmware bool
	// Orders are lines, none for a machine that starts:
	//
	//	fail=CALL:ERRNO   the call returns -ERRNO and does nothing
	//	abort=CALL        the call ends the process by SIGABRT
	//	hang=CALL         the call never returns
	//	feature=N:R       krun_has_feature(N) returns R
	//	kvm=check         /dev/kvm is opened, and SIGABRT is what happens without it
	//	disks=lost        no disk can be opened
	//	boot=panic        the guest's kernel finds no root
	//	ready=no          guestd serves, but never says so
	//	late=MS           what the host writes is read so much later, and lost if it closes
	//	exit=CODE         the machine ends as soon as it has started
	Orders []string
}

// Install makes a directory that holds a libkrun and its firmware, which ends with
// the test.
func Install(t testing.TB, o Options) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var flags []string
	for flag, on := range map[string]bool{"-DOLDER": o.Older, "-DWITHOUT_NET": o.WithoutNet, "-DWITHOUT_BLK": o.WithoutBlk} {
		if on {
			flags = append(flags, flag)
		}
	}
	library, err := once(buildLibrary, Library, flags...)
	require.NoError(t, err)
	file := LibraryFile
	switch {
	case o.Bundle:
		file = Library
	case o.Older:
		file = olderFile
	}
	require.NoError(t, order(library, filepath.Join(dir, file), o.Orders))
	if !o.Bundle {
		require.NoError(t, os.Symlink(file, filepath.Join(dir, Library)))
	}
	if o.WithoutFirmware {
		return dir
	}
	flags = nil
	if o.WrongFirmware {
		flags = []string{"-DWITHOUT_KERNEL"}
	}
	firmware, err := once(buildFirmware, Firmware, flags...)
	require.NoError(t, err)
	require.NoError(t, link(firmware, filepath.Join(dir, Firmware)))
	return dir
}

// order copies a library and writes orders into the copy.
func order(from, to string, orders []string) error {
	library, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read double: %w", err)
	}
	at := bytes.Index(library, []byte(ordersMarker))
	text := strings.Join(orders, "\n")
	if at < 0 || len(ordersMarker)+len(text) >= ordersSize {
		return errors.New("write orders: no room for them")
	}
	copy(library[at+len(ordersMarker):at+ordersSize], text)
	if err := os.WriteFile(to, library, 0o755); err != nil {
		return fmt.Errorf("write double: %w", err)
	}
	return nil
}

// link copies where a hard link cannot lead. Its mode is one that a VMM of another
// user can read.
func link(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read firmware: %w", err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		return fmt.Errorf("write firmware: %w", err)
	}
	return nil
}
