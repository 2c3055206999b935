// SPDX-License-Identifier: Apache-2.0

// Package disk makes the block devices of a machine, without root and without
// mounting anything.
//
// A root disk is the merged content of an image's layers as one read-only
// ext4 file system. It is made once for each image and shared by all machines.
// The layers are merged in an index of names (tree.go) before a byte of
// content is written, so that whiteouts, opaque directories, links across
// layers and changes of type are settled first; the result is then streamed in
// an order that ext4 can take: parents before children, a file before the hard
// links to it. The same layers give the same bytes.
//
// A scratch disk is an empty, sparse, writable ext4 file system for the
// overlay's upper layer of one machine. It is thrown away with the machine and
// so has no journal.
//
// Layers come from strangers. Names that leave the root, links to nowhere,
// symlink loops and bombs are refused with ErrBadLayer or ErrTooLarge; every
// loop over them is bounded by Limits.
package disk
