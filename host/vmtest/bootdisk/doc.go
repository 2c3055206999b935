// SPDX-License-Identifier: Apache-2.0

// Package bootdisk boots real machines the way libkrun does it: from a read-only
// boot disk whose guestd is started by libkrun's init, which testdata/init plays
// under QEMU. It holds tests only.
package bootdisk
