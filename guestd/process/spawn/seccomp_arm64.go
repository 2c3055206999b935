// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import "golang.org/x/sys/unix"

const (
	auditArch   = unix.AUDIT_ARCH_AARCH64
	foreignFrom = 0 // the one other ABI, of 32 bits, has an architecture of its own
)
