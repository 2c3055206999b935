// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool

import "sync"

const (
	// pageSize is what direct writes are aligned to, in bytes. Disks want no more.
	pageSize = 4 << 10
	// blockSize is what a large output is written by, and what a reader takes at
	// once: enough for the cost of a write and of a message to vanish. With all that
	// is around it, it still fits in two packets of vsock, of 64 KiB each; one page
	// more and each message would have a third of a few bytes.
	blockSize = 31 * pageSize
)

// block is a part of a stream in memory: data[from:end] are the bytes from offset
// off+from on. What is below end never changes again.
type block struct {
	data      []byte
	off       uint64 // a multiple of blockSize
	from, end int
	// users are the stream, as long as it knows the block, and every reader whose
	// piece lies in it. Guarded by the spool's mu.
	users int
}

// blocks holds *block that nobody uses. A spool that is read by nobody has one at
// a time, each reader may hold one more: no more memory than if each had a buffer.
var blocks = sync.Pool{New: func() any {
	// Memory of this size begins at a page, as direct writes want it.
	return &block{data: make([]byte, blockSize)}
}}

// newBlock returns an empty block for what follows total. Its only user is the
// caller.
func newBlock(total uint64) *block {
	b := blocks.Get().(*block)
	b.off, b.users = total-total%blockSize, 1
	b.from = int(total - b.off)
	b.end = b.from
	return b
}

// drop counts one user out. The spool's mu is held.
func (b *block) drop() {
	if b == nil {
		return
	}
	if b.users--; b.users == 0 {
		blocks.Put(b)
	}
}

// begin is the offset of the first byte that the block holds.
func (b *block) begin() uint64 { return b.off + uint64(b.from) }

// bytes returns what the block holds from an offset on, nil when it does not hold
// that byte.
func (b *block) bytes(off uint64) []byte {
	if b == nil || off < b.begin() || off >= b.off+uint64(b.end) {
		return nil
	}
	return b.data[off-b.off : b.end]
}

// memory returns the block that holds a byte of the stream, and the bytes of it
// from there on.
func (st *stream) memory(off uint64) (*block, []byte) {
	for _, b := range []*block{st.filling, st.filled} {
		if data := b.bytes(off); data != nil {
			return b, data
		}
	}
	return nil, nil
}

// forget drops what the stream has in memory. The spool's mu is held.
func (st *stream) forget() {
	st.filling.drop()
	st.filled.drop()
	st.filling, st.filled = nil, nil
}
