// SPDX-License-Identifier: Apache-2.0

// Package bootdisk writes the disk that a libkrun guest boots from: /dev/vda, a
// small read-only ext4 shared by all machines. Its layout is the contract with
// guestd's stage 1:
//
//	/lib/waggle/guestd      guestd, which libkrun's init becomes
//	/lib/waggle/boot.json   Boot, as JSON; that it is there says whose disk this is
//	/dev /proc /sys         empty: libkrun's init mounts on them and cannot make them
//	/run /tmp /newroot /image /scratch   empty, for guestd to mount on
package bootdisk
