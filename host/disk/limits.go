// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

// Limits bound what one image may ask of the host. The setting beside each raises it,
// as far as the file system can follow.
type Limits struct {
	// Layers is the highest number of layers: WAGGLE_IMAGE_MAX_LAYERS.
	Layers int
	// Entries is the highest number of tar entries over all layers, and of files and
	// directories that come of them, those included that no layer mentions but as
	// part of a name: WAGGLE_IMAGE_MAX_FILES.
	Entries int
	// Bytes is the highest sum of uncompressed layer sizes, and apart from
	// it the highest sum of file sizes (a sparse file is small in the first
	// and large in the second): WAGGLE_IMAGE_MAX_MB.
	Bytes int64
	// FileBytes is the largest size of one file: WAGGLE_IMAGE_MAX_FILE_MB.
	FileBytes int64
	// Depth is the highest number of components of a name: WAGGLE_IMAGE_MAX_DEPTH.
	Depth int
	// PathBytes is the longest name, in all its components: WAGGLE_IMAGE_MAX_PATH.
	PathBytes int
	// XattrBytes is the most that the extended attributes of one file may have, names
	// and values: WAGGLE_IMAGE_MAX_XATTR.
	XattrBytes int
	// IndexBytes is the most that all names, targets of links and attributes may have,
	// which are held in memory while a disk is made: WAGGLE_IMAGE_MAX_INDEX_MB.
	IndexBytes int64
}

// DefaultLimits hold the largest images in common use with room to spare.
var DefaultLimits = Limits{
	Layers: 256, Entries: 1_000_000, Bytes: 64 << 30, FileBytes: 32 << 30,
	Depth: 512, PathBytes: maxPath, XattrBytes: maxXattrs, IndexBytes: 256 << 20,
}

// MaxLimits are those of the format, and of sense. The disk ends at 1 TiB.
var MaxLimits = Limits{
	Layers: 1000, Entries: 20_000_000, Bytes: 960 << 30, FileBytes: 127 << 30,
	Depth: maxPath / 2, PathBytes: maxPath, XattrBytes: maxXattrs, IndexBytes: 16 << 30,
}

// The settings of bounds that show in more than one place.
const (
	settingFiles = "WAGGLE_IMAGE_MAX_FILES"
	settingBytes = "WAGGLE_IMAGE_MAX_MB"
)

// orDefaults fills what is zero.
func (l Limits) orDefaults() Limits {
	fill(&l.Layers, DefaultLimits.Layers)
	fill(&l.Entries, DefaultLimits.Entries)
	fill(&l.Bytes, DefaultLimits.Bytes)
	fill(&l.FileBytes, DefaultLimits.FileBytes)
	fill(&l.Depth, DefaultLimits.Depth)
	fill(&l.PathBytes, DefaultLimits.PathBytes)
	fill(&l.XattrBytes, DefaultLimits.XattrBytes)
	fill(&l.IndexBytes, DefaultLimits.IndexBytes)
	return l
}

func fill[T int | int64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// overCount is the error of an image that has more of something than is allowed. seen
// is what there was when the reading stopped.
func overCount[T int | int64](what string, seen, bound T, setting string) error {
	return fmt.Errorf("%w: %s: %d or more, and %d are allowed: raise %s if you trust the image",
		ErrTooLarge, what, seen, bound, setting)
}

// overBytes is overCount for sizes.
func overBytes(what string, seen, bound int64, setting string) error {
	return fmt.Errorf("%w: %s: %s (%d bytes) or more, and %s are allowed: raise %s if you trust the image",
		ErrTooLarge, what, humanize.IBytes(uint64(max(0, seen))), seen, humanize.IBytes(uint64(bound)), setting)
}
