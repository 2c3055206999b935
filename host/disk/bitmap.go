// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"encoding/binary"
	"fmt"
	"io"
)

// ext4 geometry of what the writer produces: 4 KiB blocks, 32-byte group
// descriptors from block 1 on, 256-byte inodes.
const (
	extBlock       = 4096
	extSuper       = 1024
	extDescriptor  = 32
	extInode       = 256
	extMaxGroups   = maxDisk / (extBlock * extBlock * 8)
	superBlocks    = 0x04 // s_blocks_count_lo
	superPerGroup  = 0x20 // s_blocks_per_group
	superInodes    = 0x28 // s_inodes_per_group
	superInodeSize = 0x58 // s_inode_size
	descInodeBitmp = 0x04 // bg_inode_bitmap_lo
	descInodeTable = 0x08 // bg_inode_table_lo
)

// readWriterAt is the file of a file system that is mended.
type readWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// geometry is where a file system has its bitmaps and inodes.
type geometry struct {
	groups, inodes int // inodes are those of a group
	blocks         int64
	desc           []byte
}

// at is the place of what the field of a group's descriptor points to.
func (g geometry) at(group, field int) int64 {
	return int64(binary.LittleEndian.Uint32(g.desc[group*extDescriptor+field:])) * extBlock
}

func readGeometry(f io.ReaderAt) (geometry, error) {
	super := make([]byte, 0x60)
	if _, err := f.ReadAt(super, extSuper); err != nil {
		return geometry{}, fmt.Errorf("read superblock: %w", err)
	}
	le := binary.LittleEndian
	g := geometry{blocks: int64(le.Uint32(super[superBlocks:])), inodes: int(le.Uint32(super[superInodes:]))}
	perGroup, size := int64(le.Uint32(super[superPerGroup:])), le.Uint16(super[superInodeSize:])
	if perGroup != extBlock*8 || g.inodes > extBlock*8 || g.inodes%8 != 0 || size != extInode {
		return g, fmt.Errorf("unexpected geometry: %d blocks and %d inodes of %d bytes per group", perGroup, g.inodes, size)
	}
	g.groups = int((g.blocks + perGroup - 1) / perGroup)
	if g.groups > extMaxGroups {
		return g, fmt.Errorf("unexpected geometry: %d groups", g.groups)
	}
	g.desc = make([]byte, g.groups*extDescriptor)
	if _, err := f.ReadAt(g.desc, extBlock); err != nil {
		return g, fmt.Errorf("read group descriptors: %w", err)
	}
	return g, nil
}

// padBitmaps sets the bits of each inode bitmap that stand for no inode. The
// ext4 writer leaves them clear, which the kernel does not mind and e2fsck
// reports as an error of the file system.
func padBitmaps(f io.WriterAt, g geometry) error {
	padding := make([]byte, extBlock-g.inodes/8)
	for i := range padding {
		padding[i] = 0xff
	}
	for group := range g.groups {
		if _, err := f.WriteAt(padding, g.at(group, descInodeBitmp)+int64(g.inodes/8)); err != nil {
			return fmt.Errorf("pad inode bitmap: %w", err)
		}
	}
	return nil
}
