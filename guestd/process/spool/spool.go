// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// Stream names one of the two streams of an exec.
type Stream int

// The streams.
const (
	Stdout Stream = iota
	Stderr
)

const (
	// hotMax is the size up to which the last piece is kept in memory.
	hotMax = 8 << 10
	// hotKept is the size up to which it stays there after the end, for readers
	// that come a moment late.
	hotKept = 1 << 10
	// maxSegments bounds the memory that remembers the order of the streams.
	maxSegments = 2048
)

// Totals counts the bytes of both streams, indexed by Stream.
type Totals struct {
	Written [2]uint64 // ever written, dropped ones included
	Dropped [2]uint64
	Marked  bool // counted at the mark, not at the end
}

// Spool is the output of one exec. Its methods may be called concurrently, but
// for Write and CloseWrite, which have one caller at a time for each stream.
type Spool struct {
	pool *Pool

	// mu is never held while data are read or written: a slow disk must not
	// stop the readers.
	mu      sync.Mutex
	streams [2]stream
	last    Stream  // of the last piece
	seq     uint64  // bytes of both streams
	mark    *Totals // nil until Mark
	ended   bool
	removed bool

	// changed is closed and replaced when something has changed and a reader
	// waits for that.
	changed chan struct{}
	waiting bool

	// A paced spool has its writers wait for its readers: see Await. moved is
	// closed and replaced when one of them has moved and a writer is held.
	paced   bool
	readers map[*Reader]struct{}
	moved   chan struct{}
	held    bool
}

// Write appends a piece. It keeps nothing of b. It cannot fail: what cannot be
// kept is dropped and counted.
func (s *Spool) Write(which Stream, b []byte) {
	if len(b) == 0 {
		return
	}
	if s.collects(which) {
		for len(b) > 0 {
			n := copy(s.Room(which), b)
			s.Commit(which, n)
			b = b[n:]
		}
		return
	}
	if s.needsRoom(which, uint64(len(b))) {
		s.pool.makeRoom() // without the lock: it removes other spools
	}
	layout, ok := s.begin(which, uint64(len(b)))
	if ok {
		s.put(which, layout, b, layout.total)
	}
	s.publish(which, b)
}

// needsRoom says whether n more bytes make the file grow beyond what is taken
// of the budget.
func (s *Spool) needsRoom(which Stream, n uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	return min(st.total+n, st.head+st.ring) > st.taken
}

// begin makes room for n bytes and returns the layout to write with. Readers
// stay away from what will be overwritten from here on.
func (s *Spool) begin(which Stream, n uint64) (stream, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	if s.removed {
		return stream{}, false
	}
	if st.file == nil {
		f, err := os.OpenFile(st.name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			slog.Warn("output is dropped", "err", fmt.Errorf("create spool: %w", err))
			st.head, st.ring = min(st.head, st.total), 0
			st.low = st.total + n
			return stream{}, false
		}
		st.file = f
	}
	s.grow(st, n)
	st.low = st.lowAt(st.total + n)
	return *st, true
}

// grow takes what n more bytes need from the budget, and limits the stream to
// what it has when there is nothing left.
func (s *Spool) grow(st *stream, n uint64) {
	limit := st.head + st.ring
	want := min(st.total+n, limit)
	if want <= st.taken {
		return
	}
	if step := min((want+grain-1)/grain*grain, limit); s.pool.take(step-st.taken, false) {
		st.taken = step
		return
	}
	if least := min(limit, floor); st.taken < least {
		s.pool.take(least-st.taken, true)
		st.taken = least
	}
	if want > st.taken {
		st.resize(max(st.taken, st.total))
	}
}

// publish makes a piece visible.
func (s *Spool) publish(which Stream, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	off := st.total
	s.count(which, len(b))
	if len(b) <= hotMax {
		st.hot, st.hotOff = append([]byte(nil), b...), off
	}
}

// count counts n bytes more and tells the readers. mu is held.
func (s *Spool) count(which Stream, n int) {
	st := &s.streams[which]
	if s.last != which || len(st.segs) == 0 {
		if len(s.streams[0].segs)+len(s.streams[1].segs) >= maxSegments {
			s.coarsen()
		}
		st.segs = append(st.segs, segment{off: st.total, seq: s.seq})
		s.last = which
	}
	st.hot = nil
	st.total += uint64(n)
	s.seq += uint64(n)
	s.wake()
}

// coarsen forgets every second change of streams: the order of old pieces
// becomes less exact, the memory stays bounded.
func (s *Spool) coarsen() {
	for i := range s.streams {
		st := &s.streams[i]
		kept := st.segs[:0]
		for j := 0; j < len(st.segs); j += 2 {
			kept = append(kept, st.segs[j])
		}
		st.segs = kept
	}
}

// wake tells the readers. mu is held.
func (s *Spool) wake() {
	if s.waiting {
		s.waiting = false
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// CloseWrite writes what is in memory only and closes the files of the writer;
// readers open their own.
func (s *Spool) CloseWrite() {
	s.storeRest()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.streams {
		st := &s.streams[i]
		st.forget()
		for _, f := range []*os.File{st.file, st.direct} {
			if f != nil {
				_ = f.Close() // nothing is promised about a crash of the machine
			}
		}
		st.file, st.direct = nil, nil
		if len(st.hot) > hotKept {
			st.hot = nil
		}
	}
}

// Empty says whether the spool holds nothing of the budget.
func (s *Spool) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[Stdout].taken+s.streams[Stderr].taken == 0
}

// Remove removes the files and gives their bytes back to the budget. Readers
// that have their files open keep them.
func (s *Spool) Remove() {
	s.CloseWrite()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return
	}
	s.removed = true
	for i := range s.streams {
		st := &s.streams[i]
		if st.taken == 0 {
			continue // there is no file
		}
		if err := os.Remove(st.name); err != nil {
			slog.Warn("spool is left behind", "err", fmt.Errorf("remove spool: %w", err))
		}
		s.pool.give(st.taken)
		st.taken = 0
	}
}
