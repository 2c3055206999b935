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
// with the directory and the bytes that the work needs there in all. Any other error
// is returned as it is. What the work itself has taken must have been given back.
func noSpace(err error, dir string, need int64) error {
	if err == nil || errors.Is(err, ErrNoSpace) {
		return err
	}
	if !isFull(err) {
		return err
	}
	return spaceError(dir, need, "")
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// spaceError says what is needed and what there is; parts says of what the need is
// made, and may be empty.
func spaceError(dir string, need int64, parts string) error {
	const other = "choose another directory with WAGGLE_DATA_DIR"
	text := humanize.IBytes(uint64(need)) + " needed" + parts
	free, err := freeBytes(dir)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s in %s; free some space there, or %s", ErrNoSpace, text, dir, other)
	case free >= need: // a quota, or somebody else had it and gave it back
		return fmt.Errorf("%w: %s in %s, where %s are free now: try again, or %s",
			ErrNoSpace, text, dir, humanize.IBytes(uint64(free)), other)
	}
	return fmt.Errorf("%w: %s in %s, where %s are free: free %s more there, or %s",
		ErrNoSpace, text, dir, humanize.IBytes(uint64(free)), humanize.IBytes(uint64(need-free)), other)
}
