// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	inodeXattrBlock  = 0x68       // i_file_acl_lo
	xattrMagic       = 0xEA020000 // of an attribute block
	xattrBlockHeader = 32
)

// sortXattrs brings the attributes in each attribute block into the order in which the
// kernel looks for them: by name space, length and bytes. The ext4 writer's comparison
// is not an order: with more than a dozen in one block they may come out in another, and
// the kernel then stops before the one that is asked for.
func sortXattrs(f readWriterAt, g geometry) error {
	table := make([]byte, g.inodes*extInode)
	for group := range g.groups {
		// The table may end in a hole, but never beyond the file system.
		if _, err := f.ReadAt(table, g.at(group, descInodeTable)); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read inodes: %w", err)
		}
		for inode := range slices.Chunk(table, extInode) {
			block := int64(binary.LittleEndian.Uint32(inode[inodeXattrBlock:]))
			if block == 0 {
				continue
			}
			if block >= g.blocks {
				return fmt.Errorf("attributes in block %d of %d", block, g.blocks)
			}
			if err := sortXattrBlock(f, block*extBlock); err != nil {
				return err
			}
		}
	}
	return nil
}

// sortXattrBlock sorts the entries of one block; the values stay where they are.
func sortXattrBlock(f readWriterAt, at int64) error {
	block := make([]byte, extBlock)
	if _, err := f.ReadAt(block, at); err != nil {
		return fmt.Errorf("read attributes: %w", err)
	}
	if magic := binary.LittleEndian.Uint32(block); magic != xattrMagic {
		return fmt.Errorf("attributes at %d begin with %#x", at, magic)
	}
	entries := xattrEntries(block)
	if slices.IsSortedFunc(entries, compareXattrs) {
		return nil
	}
	slices.SortFunc(entries, compareXattrs)
	if _, err := f.WriteAt(bytes.Join(entries, nil), at+xattrBlockHeader); err != nil {
		return fmt.Errorf("sort attributes: %w", err)
	}
	return nil
}

// xattrEntries are the entries of a block, each with its padding.
func xattrEntries(block []byte) (entries [][]byte) {
	for end := xattrBlockHeader; end+xattrOverhead <= len(block) && binary.LittleEndian.Uint32(block[end:]) != 0; {
		size := xattrOverhead + (int(block[end])+3)&^3
		if end+size > len(block) {
			break
		}
		entries = append(entries, block[end:end+size])
		end += size
	}
	return entries
}

// compareXattrs is ext4_xattr_find_entry's order.
func compareXattrs(a, b []byte) int {
	return cmp.Or(cmp.Compare(a[1], b[1]), cmp.Compare(a[0], b[0]), bytes.Compare(a[xattrOverhead:], b[xattrOverhead:]))
}
