// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/stacklok/waggle/host/disk"
)

// diskLimitFlags bound what an image may ask of the host when its disk is made.
type diskLimitFlags struct {
	MaxMB      int64 `name:"image-max-mb" help:"Largest image, unpacked, in MiB." default:"65536" env:"WAGGLE_IMAGE_MAX_MB"`
	MaxFileMB  int64 `name:"image-max-file-mb" help:"Largest file of an image in MiB." default:"32768" env:"WAGGLE_IMAGE_MAX_FILE_MB"`
	MaxFiles   int   `name:"image-max-files" help:"Most files and directories of an image, over all its layers." default:"1000000" env:"WAGGLE_IMAGE_MAX_FILES"`
	MaxLayers  int   `name:"image-max-layers" help:"Most layers of an image." default:"256" env:"WAGGLE_IMAGE_MAX_LAYERS"`
	MaxDepth   int   `name:"image-max-depth" help:"Most directories of an image, one in the other." default:"512" env:"WAGGLE_IMAGE_MAX_DEPTH"`
	MaxPath    int   `name:"image-max-path" help:"Longest name in an image, with its directories, in bytes." default:"4095" env:"WAGGLE_IMAGE_MAX_PATH"`
	MaxXattr   int   `name:"image-max-xattr" help:"Most bytes of a file's extended attributes, names and values." default:"4156" env:"WAGGLE_IMAGE_MAX_XATTR"`
	MaxIndexMB int64 `name:"image-max-index-mb" help:"Most MiB that the names, links and attributes of an image take of the host's memory." default:"256" env:"WAGGLE_IMAGE_MAX_INDEX_MB"`
}

const bytesPerMB = 1 << 20

// limits are the flags as the disk cache takes them.
func (f diskLimitFlags) limits() disk.Limits {
	return disk.Limits{
		Layers: f.MaxLayers, Entries: f.MaxFiles, Bytes: f.MaxMB * bytesPerMB, FileBytes: f.MaxFileMB * bytesPerMB,
		Depth: f.MaxDepth, PathBytes: f.MaxPath, XattrBytes: f.MaxXattr, IndexBytes: f.MaxIndexMB * bytesPerMB,
	}
}

// check refuses what the format of a disk, or a host, cannot follow.
func (f diskLimitFlags) check() error {
	most := disk.MaxLimits
	return errors.Join(
		within("WAGGLE_IMAGE_MAX_MB", "image-max-mb", f.MaxMB, 1, most.Bytes/bytesPerMB),
		within("WAGGLE_IMAGE_MAX_FILE_MB", "image-max-file-mb", f.MaxFileMB, 1, most.FileBytes/bytesPerMB),
		within("WAGGLE_IMAGE_MAX_FILES", "image-max-files", f.MaxFiles, 1, most.Entries),
		within("WAGGLE_IMAGE_MAX_LAYERS", "image-max-layers", f.MaxLayers, 1, most.Layers),
		within("WAGGLE_IMAGE_MAX_DEPTH", "image-max-depth", f.MaxDepth, 1, most.Depth),
		within("WAGGLE_IMAGE_MAX_PATH", "image-max-path", f.MaxPath, 1, most.PathBytes),
		within("WAGGLE_IMAGE_MAX_XATTR", "image-max-xattr", f.MaxXattr, 1, most.XattrBytes),
		within("WAGGLE_IMAGE_MAX_INDEX_MB", "image-max-index-mb", f.MaxIndexMB, 1, most.IndexBytes/bytesPerMB),
	)
}

// checkDiskLimits shows the bounds of images.
func checkDiskLimits(f diskLimitFlags) finding {
	l := f.limits()
	return good("image bounds", fmt.Sprintf("%s unpacked, %s a file, %s files, %d layers, names of %d bytes and %d directories, %d bytes of attributes a file, %s of names (WAGGLE_IMAGE_MAX_*)",
		humanize.IBytes(uint64(l.Bytes)), humanize.IBytes(uint64(l.FileBytes)), humanize.Comma(int64(l.Entries)), l.Layers,
		l.PathBytes, l.Depth, l.XattrBytes, humanize.IBytes(uint64(l.IndexBytes))))
}
