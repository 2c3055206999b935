// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool

import (
	"context"
	"fmt"
	"io"
	"os"
	"sort"
)

const (
	// minPiece is the size of a reader's first buffer, maxPiece the most bytes
	// of a piece.
	minPiece = 16 << 10
	maxPiece = blockSize
)

// Piece is a part of one stream.
type Piece struct {
	Stream  Stream
	Offset  uint64 // of the first byte, counted from the first ever written
	Seq     uint64 // the lower of two was written first
	Dropped uint64 // bytes just before Offset that are lost
	Data    []byte // valid until the next call of Next
}

// Reader follows a spool with a cursor of its own. Its methods must not be
// called concurrently with each other.
type Reader struct {
	spool   *Spool
	cursor  [2]uint64
	dropped [2]uint64 // since the last piece
	files   [2]*os.File
	buf     []byte
	block   *block  // where the last piece lies, if it is in memory
	end     *Totals // once known: where this reader ends
	atMark  bool    // it ends at the mark
	// read is how far the pieces go that the caller is done with. Guarded by the
	// spool's mu.
	read [2]uint64
}

// Reader returns a reader that begins at the given offsets. The caller calls
// Close.
func (s *Spool) Reader(stdout, stderr uint64) *Reader {
	r := &Reader{spool: s, cursor: [2]uint64{stdout, stderr}}
	r.read = r.cursor
	s.enter(r)
	return r
}

// StopAtMark has the reader end where Mark is called, or was, unless the spool has
// ended meanwhile. Call it before Next.
func (r *Reader) StopAtMark() { r.atMark = true }

// Close closes the reader's files. Writers no longer wait for it.
func (r *Reader) Close() {
	r.spool.leave(r)
	r.release()
	for _, f := range r.files {
		if f != nil {
			_ = f.Close() // only read
		}
	}
}

// Totals returns what the stream that this reader has read to its end held.
func (r *Reader) Totals() Totals {
	if r.end != nil {
		return *r.end
	}
	return r.spool.Totals()
}

// Next waits for the next piece. It returns io.EOF when the spool has ended and
// everything was read, and ctx's error when that comes first.
func (r *Reader) Next(ctx context.Context) (Piece, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Piece{}, err
		}
		p, wait, err := r.plan()
		if err != nil {
			return Piece{}, err
		}
		if wait != nil {
			select {
			case <-wait:
			case <-ctx.Done():
			}
			continue
		}
		ok, err := r.load(&p)
		if err != nil {
			return Piece{}, err
		}
		if ok {
			r.cursor[p.piece.Stream] += uint64(len(p.piece.Data))
			r.dropped[p.piece.Stream] = 0
			return p.piece, nil
		}
		// The writer has gone over that place meanwhile: look again.
	}
}

// release lets go of the memory of the last piece.
func (r *Reader) release() {
	r.spool.mu.Lock()
	defer r.spool.mu.Unlock()
	r.block.drop()
	r.block = nil
}

// plan is a piece that is to be read: its place in the file, unless the data
// are there already.
type plan struct {
	piece Piece
	block *block // that holds the data
	pos   uint64
	size  uint64
}

// plan chooses the piece that was written first, or returns what to wait for.
func (r *Reader) plan() (plan, <-chan struct{}, error) {
	s := r.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	r.read = r.cursor
	r.block.drop()
	r.block = nil
	s.wakeWriters()
	switch {
	case r.end != nil:
	case s.ended:
		t := s.totals()
		r.end = &t
	case r.atMark:
		r.end = s.mark
	}
	best, found := plan{}, false
	for i := range s.streams {
		p, ok := r.candidate(Stream(i))
		if ok && (!found || p.piece.Seq < best.piece.Seq) {
			best, found = p, true
		}
	}
	switch {
	case found:
		if r.block = best.block; r.block != nil {
			r.block.users++
		}
		return best, nil, nil
	case r.end != nil:
		return plan{}, nil, io.EOF
	case s.removed:
		return plan{}, nil, fmt.Errorf("read spool: %w", os.ErrClosed)
	}
	s.waiting = true
	return plan{}, s.changed, nil
}

// candidate returns the next piece of one stream. mu is held.
func (r *Reader) candidate(which Stream) (plan, bool) {
	st := &r.spool.streams[which]
	cur := r.cursor[which]
	if cur >= st.head && cur < st.low {
		skipTo := min(st.low, max(st.total, cur))
		r.dropped[which] += skipTo - cur
		cur = skipTo
		r.cursor[which] = cur
	}
	end := st.total
	if r.end != nil {
		end = min(end, r.end.Written[which])
	}
	if cur >= end {
		return plan{}, false
	}
	if cur < st.head && st.low > st.head {
		end = min(end, st.head)
	}
	// The last segment that begins at or before cur; the first begins at 0.
	i := sort.Search(len(st.segs), func(i int) bool { return st.segs[i].off > cur }) - 1
	if i+1 < len(st.segs) {
		end = min(end, st.segs[i+1].off)
	}
	p := plan{piece: Piece{
		Stream:  which,
		Offset:  cur,
		Seq:     st.segs[i].seq + cur - st.segs[i].off,
		Dropped: r.dropped[which],
	}}
	if st.hot != nil && cur >= st.hotOff {
		p.piece.Data = st.hot[cur-st.hotOff : end-st.hotOff]
		return p, true
	}
	if b, data := st.memory(cur); b != nil {
		p.block, p.piece.Data = b, data[:min(uint64(len(data)), end-cur)]
		return p, true
	}
	if st.filling != nil {
		end = min(end, st.filling.begin()) // there the file ends for now
	}
	pos, room := st.locate(cur)
	p.pos, p.size = pos, min(room, end-cur, maxPiece)
	return p, true
}

// load reads the data of a plan. False: they were overwritten meanwhile.
func (r *Reader) load(p *plan) (bool, error) {
	if p.piece.Data != nil {
		return true, nil
	}
	which := p.piece.Stream
	if r.files[which] == nil {
		f, err := os.Open(r.spool.streams[which].name) // name never changes
		if err != nil {
			return false, fmt.Errorf("open spool: %w", err)
		}
		r.files[which] = f
	}
	if uint64(len(r.buf)) < p.size {
		size := minPiece
		if p.size > minPiece {
			size = maxPiece
		}
		r.buf = make([]byte, size)
	}
	data := r.buf[:p.size]
	if _, err := r.files[which].ReadAt(data, int64(p.pos)); err != nil {
		return false, fmt.Errorf("read spool: %w", err)
	}
	p.piece.Data = data
	s := r.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	return p.piece.Offset+p.size <= st.head || p.piece.Offset >= st.low, nil
}
