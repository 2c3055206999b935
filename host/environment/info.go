// SPDX-License-Identifier: Apache-2.0

package environment

import "time"

// Info describes an environment.
type Info struct {
	ID, Name string
	// Owner is the identity that made it, or "" for the operator.
	Owner string
	// Runtime is empty for an environment that was made of an image by name.
	Runtime string
	// What it was made of.
	Image, ImageDigest string
	// GuestdVersion serves it; GuestdOrigin is host or image, and GuestdNote says
	// why it is not the image's, if that has one.
	GuestdVersion, GuestdOrigin, GuestdNote string
	// User runs its commands, in Dir.
	User, Dir string
	// Languages are those whose code it ran when it was made, the one that Exec
	// takes by default first. Managers are its package managers. Nil: not known.
	Languages, Managers []string
	State               State
	// Cause says why it failed, or, of a running one, why it stands still.
	Cause     string
	CreatedAt time.Time
	// Idle is its idle timeout.
	Idle                     time.Duration
	CPUs, MemoryMiB, DiskMiB uint32
	// Adopted: an earlier server made it.
	Adopted bool
}
