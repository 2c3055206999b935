// SPDX-License-Identifier: Apache-2.0

package vmm

// User is the identity that a VMM runs with.
type User struct {
	UID, GID uint32
}
