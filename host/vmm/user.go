// SPDX-License-Identifier: Apache-2.0

package vmm

// KVMDevice is where Linux offers its hypervisor.
const KVMDevice = "/dev/kvm"

// User is the identity that a VMM runs with.
type User struct {
	UID, GID uint32
}
