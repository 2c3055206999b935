// SPDX-License-Identifier: Apache-2.0

//go:build linux

package seccomp

import "golang.org/x/sys/unix"

const (
	// Arch is what the kernel calls this architecture.
	Arch        = unix.AUDIT_ARCH_AARCH64
	ForeignFrom = 0 // the one other ABI, of 32 bits, has an architecture of its own
)
