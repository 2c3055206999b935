// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool

import "runtime"

// Room returns memory for the next bytes of a stream, for Commit to take over: a
// writer of much output spares a copy. From the first call on the stream is
// collected in memory, readers that keep up are served from there, and the file
// gets whole blocks. There is one caller for each stream, as for Write.
func (s *Spool) Room(which Stream) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	st.collects = true
	if st.filling == nil {
		st.filling = newBlock(st.total)
	}
	return st.filling.data[st.filling.end:]
}

// collects says whether a stream has begun to be collected in memory.
func (s *Spool) collects(which Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[which].collects
}

// Commit appends the first n bytes of what Room returned. Like Write it cannot
// fail.
func (s *Spool) Commit(which Stream, n int) {
	if n == 0 {
		return
	}
	if s.needsRoom(which, uint64(n)) {
		s.pool.makeRoom() // without the lock: it removes other spools
	}
	_, kept := s.begin(which, uint64(n))
	full := s.advance(which, n, kept)
	if full == nil {
		return
	}
	// Readers that wait were woken. On a single CPU they would come too late, when
	// the block is used again, and would have to fetch all from the file.
	runtime.Gosched()
	s.store(which, full)
	s.turn(which)
}

// advance makes n bytes of the block visible, and returns it if it is full.
// Without a file nothing is kept, as begin has noted.
func (s *Spool) advance(which Stream, n int, kept bool) *block {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	b := st.filling
	b.end += n
	s.count(which, n)
	switch {
	case !kept:
		st.forget()
	case b.end == blockSize:
		return b
	}
	return nil
}

// turn makes room for the next block. The full one stays for readers that are not
// through with it.
func (s *Spool) turn(which Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	st.filled.drop()
	st.filled, st.filling = st.filling, nil
	if len(s.readers) == 0 {
		st.forget()
	}
}
