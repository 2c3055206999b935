// SPDX-License-Identifier: Apache-2.0

package environment

import "time"

// Request says what machine to make.
type Request struct {
	// ID names the environment, its run directory and its host name.
	ID string
	// Name is the maker's name for it; may be empty.
	Name string
	// Owner is the identity that it is made for; empty: the operator.
	Owner string
	// Runtime is python, node or shell; empty for a bare image.
	Runtime string
	// Image is the reference to boot; empty: the one of the runtime.
	Image string
	// Stranger: Image is the word of somebody who must not open the host's files.
	Stranger bool
	// Env are variables on top of the image's.
	Env map[string]string
	// NoNetwork: it has no network card.
	NoNetwork bool
	// Key and KeySum are the idempotency key and what tells its parameters apart.
	Key, KeySum string
	// CPUs, MemoryMiB and DiskMiB are the machine's size.
	CPUs, MemoryMiB, DiskMiB uint32
	// IdleTimeout ends the machine when nothing has run in it for so long. The
	// supervisor holds the clock.
	IdleTimeout time.Duration
	// MaxLifetime and OrphanTimeout end it regardless. Zero: never.
	MaxLifetime, OrphanTimeout time.Duration
}
