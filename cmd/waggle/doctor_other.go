// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// checkJail is not called: there is none.
func checkJail(int) finding {
	return note("jail", "there is none on this system (docs/libkrun.md)", "")
}

// memInfoMiB is all that there is: what is free of it, macOS does not say in one
// number.
func memInfoMiB(string, string) (uint64, error) {
	size, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0, fmt.Errorf("ask for the memory: %w", err)
	}
	return size >> 20, nil
}
