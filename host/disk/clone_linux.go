// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reflink makes out share the blocks of in (btrfs, xfs, bcachefs).
func reflink(out, in *os.File) error {
	return unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
}

// nextData returns the next stretch of f at or after pos that is not a hole;
// an empty one at size when only a hole is left.
func nextData(f *os.File, pos, size int64) (from, to int64, err error) {
	from, err = unix.Seek(int(f.Fd()), pos, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size, nil
	}
	if err != nil {
		return 0, 0, err
	}
	to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
	return from, to, err
}
