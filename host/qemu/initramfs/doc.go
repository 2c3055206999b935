// SPDX-License-Identifier: Apache-2.0

// Package initramfs writes the initial file system that a QEMU guest boots
// into. Its layout is the contract with guestd's stage 1:
//
//	/init                              guestd
//	/lib/waggle/modules/NN-name.ko     load order is the lexical order
//	/lib/waggle/boot.json              Boot, as JSON
//	/dev/console                       so that init has a console from the start
//	/dev /proc /sys /run /tmp /newroot empty, to mount on
//
// The archive is newc cpio, uncompressed: under emulation, unpacking costs more
// than reading, and QEMU maps the file, so that its pages are shared by all VMs.
package initramfs
