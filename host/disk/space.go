// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"
	"syscall"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// errNoRoom is a disk that is full before the kernel has said so.
var errNoRoom = fmt.Errorf("no room for the disk: %w", syscall.ENOSPC)

// space is what making a disk needs of the host's: its layers, unpacked, and beside
// them the disk.
type space struct {
	spool, disk int64
	// least says that the layers were not read yet, so that it may be more.
	least bool
}

func (s space) total() int64 { return s.spool + s.disk }

// leastSpace is what layers need that nobody has unpacked yet. No layer unpacks to
// much less than it has as it is stored: one of noise is a little larger.
func leastSpace(layers []Layer) space {
	s := space{least: true}
	for _, l := range layers {
		s.spool += l.Size - l.Size/64
	}
	s.disk = s.spool
	return s
}

// error says what is needed, of what that is made, and what there is.
func (s space) error(dir string) error {
	least := ""
	if s.least {
		least = " at the least"
	}
	return spaceError(dir, s.total(), fmt.Sprintf("%s to make the image's disk (%s to unpack its layers, %s for the disk)",
		least, humanize.IBytes(uint64(s.spool)), humanize.IBytes(uint64(s.disk))))
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space in %s: %w", dir, err)
	}
	return int64(min(st.Bavail*uint64(st.Bsize), 1<<62)), nil
}
