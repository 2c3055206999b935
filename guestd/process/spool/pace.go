// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool

// slack is how far the ring stays behind the slowest reader: what a reader was
// given may still be on its way to a client, who asks for it again when the
// stream breaks; and what is left in a pipe at the end is not waited for.
const slack = 8 << 20

// Pace makes Await wait for readers until Unpace. Call it before the first Write.
func (s *Spool) Pace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paced = true
}

// Unpace lets the writers go on for good.
func (s *Spool) Unpace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paced = false
	s.wakeWriters()
}

// Await returns when n more bytes of a stream overwrite nothing that a reader
// still needs, when no reader is left, or when the spool is not paced. There is
// one caller for each stream.
func (s *Spool) Await(which Stream, n uint64) {
	for {
		wait := s.blocked(which, n)
		if wait == nil {
			return
		}
		<-wait
	}
}

// Slack is how much may be written to a stream after an Await, without another one,
// before readers that it waited for miss something.
func (s *Spool) Slack(which Stream) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[which].slack()
}

// slack is less for a small ring, of which it must leave something to use.
func (st *stream) slack() uint64 { return min(slack, st.ring/2) }

// blocked returns what to wait for, nil for nothing.
func (s *Spool) blocked(which Stream, n uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.paced || n == 0 {
		return nil
	}
	st := &s.streams[which]
	if st.total+n <= st.head+st.ring {
		return nil
	}
	lowest := st.total
	for r := range s.readers {
		lowest = min(lowest, r.read[which])
	}
	// A ring may be small, for want of disk: one that holds nothing unread is
	// as good as it gets. It also holds nothing when there is no reader.
	if lowest == st.total || lowest >= st.lowAt(st.total+n)+st.slack() {
		return nil
	}
	s.held = true
	return s.moved
}

// enter makes writers wait for r.
func (s *Spool) enter(r *Reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers[r] = struct{}{}
}

// leave takes r out again.
func (s *Spool) leave(r *Reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.readers, r)
	s.wakeWriters()
}

// wakeWriters tells those that wait. mu is held.
func (s *Spool) wakeWriters() {
	if s.held {
		s.held = false
		close(s.moved)
		s.moved = make(chan struct{})
	}
}
