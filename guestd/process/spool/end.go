// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool

// Mark lets those readers finish that stop there, once they have what is there
// now. The others go on.
func (s *Spool) Mark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.totals()
	t.Marked = true
	s.mark = &t
	s.wake()
}

// Marked returns what was written until Mark, if that was called.
func (s *Spool) Marked() (Totals, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mark == nil {
		return Totals{}, false
	}
	return *s.mark, true
}

// End lets every reader finish once it has what is there. Nothing is written
// after it.
func (s *Spool) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.wake()
}

// Totals counts what was written so far.
func (s *Spool) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals()
}

func (s *Spool) totals() Totals {
	var t Totals
	for i := range s.streams {
		t.Written[i] = s.streams[i].total
		t.Dropped[i] = s.streams[i].dropped()
	}
	return t
}
