// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"encoding/binary"
	"fmt"
	"io"
)

// ext4 geometry of what the writer produces: 4 KiB blocks, 32-byte group
// descriptors from block 1 on.
const (
	extBlock       = 4096
	extSuper       = 1024
	extDescriptor  = 32
	extMaxGroups   = maxDisk / (extBlock * extBlock * 8)
	superBlocks    = 0x04 // s_blocks_count_lo
	superPerGroup  = 0x20 // s_blocks_per_group
	superInodes    = 0x28 // s_inodes_per_group
	descInodeBitmp = 0x04 // bg_inode_bitmap_lo
)

// padBitmaps sets the bits of each inode bitmap that stand for no inode. The
// ext4 writer leaves them clear, which the kernel does not mind and e2fsck
// reports as an error of the file system.
func padBitmaps(f interface {
	io.ReaderAt
	io.WriterAt
}) error {
	super := make([]byte, 0x30)
	if _, err := f.ReadAt(super, extSuper); err != nil {
		return fmt.Errorf("read superblock: %w", err)
	}
	le := binary.LittleEndian
	blocks, perGroup := le.Uint32(super[superBlocks:]), le.Uint32(super[superPerGroup:])
	inodes := int(le.Uint32(super[superInodes:]))
	if perGroup != extBlock*8 || inodes > extBlock*8 || inodes%8 != 0 {
		return fmt.Errorf("pad bitmaps: unexpected geometry: %d blocks and %d inodes per group", perGroup, inodes)
	}
	groups := int((int64(blocks) + int64(perGroup) - 1) / int64(perGroup))
	if groups > extMaxGroups {
		return fmt.Errorf("pad bitmaps: unexpected geometry: %d groups", groups)
	}
	padding := make([]byte, extBlock-inodes/8)
	for i := range padding {
		padding[i] = 0xff
	}
	desc := make([]byte, groups*extDescriptor)
	if _, err := f.ReadAt(desc, extBlock); err != nil {
		return fmt.Errorf("read group descriptors: %w", err)
	}
	for g := range groups {
		bitmap := int64(le.Uint32(desc[g*extDescriptor+descInodeBitmp:]))
		if _, err := f.WriteAt(padding, bitmap*extBlock+int64(inodes/8)); err != nil {
			return fmt.Errorf("pad inode bitmap: %w", err)
		}
	}
	return nil
}
