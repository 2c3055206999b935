// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import "golang.org/x/sys/unix"

// fullBelow is the room, in bytes, below which a file system counts as full: a
// program that was refused a large write may have left some.
const fullBelow = 1 << 20

// writable is where commands write without asking for another place.
var writable = []string{"/", "/tmp", "/dev/shm"}

// fullFilesystems returns which of them a command can write no more to. What is
// set aside for guestd is not counted as room.
func fullFilesystems() []string {
	var full []string
	for _, path := range writable {
		var st unix.Statfs_t
		if unix.Statfs(path, &st) != nil || st.Blocks == 0 {
			continue
		}
		if st.Bavail*uint64(st.Bsize) < fullBelow || st.Files > 0 && st.Ffree == 0 {
			full = append(full, path)
		}
	}
	return full
}
