// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import "golang.org/x/sys/unix"

var archTries []try

// i386 has nothing of its like here.
func i386() error { return unix.ENOSYS }
