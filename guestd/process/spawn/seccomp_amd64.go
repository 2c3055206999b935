// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_X86_64
	// foreignFrom is the first number of the x32 ABI, which shares the
	// architecture. A kernel without it answers ENOSYS.
	foreignFrom = 0x40000000
)
