// SPDX-License-Identifier: Apache-2.0

//go:build linux

package seccomp

import "golang.org/x/sys/unix"

const (
	// Arch is what the kernel calls this architecture.
	Arch = unix.AUDIT_ARCH_X86_64
	// ForeignFrom is the first number of the x32 ABI, which shares the
	// architecture. A kernel without it answers ENOSYS.
	ForeignFrom = 0x40000000
)
