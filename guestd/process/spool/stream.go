// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool

import (
	"fmt"
	"os"
)

// stream is one file. Offsets count bytes ever written; a place in the file is
// called a position. All fields are guarded by the spool's mu.
//
//	offsets    0 ...... head ......... low ......... total
//	           kept        dropped         kept (ring)
//
// Offsets below head lie at the same position. Others lie in a ring of ring
// bytes that begins at position head. While total is at most head+ring every
// offset is its own position, whatever head and ring are; so both may change
// until then.
type stream struct {
	name  string
	file  *os.File // of the writer; nil before the first byte and after CloseWrite
	head  uint64
	ring  uint64
	total uint64 // bytes written and visible
	low   uint64 // first offset that the ring holds or, during a write, will hold
	taken uint64 // of the pool's budget

	// The last piece, when it was small: a reader that keeps up gets it without
	// opening the file. Never changed in place.
	hot    []byte
	hotOff uint64

	// A stream of much output: see Room. filling takes what comes next and ends
	// at total, the file ends where it begins; filled is the one before it. direct
	// is file as direct writes want it. filling is changed by the writer only.
	filling, filled *block
	collects        bool
	direct          *os.File

	segs []segment
}

// segment is a run of bytes during which the other stream was silent.
type segment struct {
	off uint64 // first offset
	seq uint64 // bytes of both streams before it
}

// resize sets the limit. Only while total <= limit, or before the first wrap.
func (st *stream) resize(limit uint64) {
	st.head = limit / 2
	st.ring = limit - st.head
}

// kept is how many bytes the file may have. Up to there positions are offsets.
func (st *stream) kept() uint64 { return st.head + st.ring }

// lowAt returns where the ring begins once total bytes are written.
func (st *stream) lowAt(total uint64) uint64 {
	if total <= st.head+st.ring {
		return st.head
	}
	return total - st.ring
}

// dropped returns the bytes that are no longer kept.
func (st *stream) dropped() uint64 { return st.lowAt(st.total) - st.head }

// locate returns the position of an offset and how many bytes follow it there.
func (st *stream) locate(off uint64) (pos, room uint64) {
	if off < st.head {
		return off, st.head - off
	}
	if st.ring == 0 {
		return st.head, 0
	}
	at := (off - st.head) % st.ring
	return st.head + at, st.ring - at
}

// put writes b at off and the positions that follow from it. It runs without
// the lock, on a copy of the stream's layout.
func (st stream) put(b []byte, off uint64) error {
	for len(b) > 0 {
		if off >= st.head && uint64(len(b)) > st.ring {
			skip := uint64(len(b)) - st.ring // these would be overwritten at once
			b, off = b[skip:], off+skip
			continue
		}
		pos, room := st.locate(off)
		n := min(room, uint64(len(b)))
		if _, err := st.file.WriteAt(b[:n], int64(pos)); err != nil {
			return fmt.Errorf("write spool: %w", err)
		}
		b, off = b[n:], off+n
	}
	return nil
}
