// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/dustin/go-humanize"

	"github.com/stacklok/waggle/host/remedy"
)

var (
	// ErrBadLayer is a layer that no honest tool writes: broken tar, names
	// that leave the root, links to files that do not exist.
	ErrBadLayer = errors.New("image layer is damaged or malicious")
	// ErrTooLarge is an image beyond Limits.
	ErrTooLarge = errors.New("image is too large")
	// ErrNoSpace is a full host disk.
	ErrNoSpace = errors.New("no space left on the host's disk")
	// ErrNoMkfs is a host without mkfs.ext4.
	ErrNoMkfs = errors.New("mkfs.ext4 not found: " + remedy.RunApt("e2fsprogs"))
	// ErrNotFound is a disk that the cache does not hold.
	ErrNotFound = errors.New("no such disk")
)

// noSpace turns the kernel's word for a full disk (or quota) into ErrNoSpace
// with the directory and the bytes that the work needs there. Any other error
// is returned as it is.
func noSpace(err error, dir string, need int64) error {
	if err == nil || errors.Is(err, ErrNoSpace) {
		return err
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return spaceError(dir, need)
}

func spaceError(dir string, need int64) error {
	return fmt.Errorf("%w: %s needs at least %s (%d bytes) free; free some space there, or choose another with WAGGLE_DATA_DIR",
		ErrNoSpace, dir, humanize.IBytes(uint64(need)), need)
}
