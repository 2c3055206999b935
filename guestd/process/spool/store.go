// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool

import (
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// store writes a block to the file. What cannot be kept is dropped and counted.
func (s *Spool) store(which Stream, b *block) {
	layout, ok := s.layout(which)
	if !ok {
		return
	}
	if !s.storeDirect(which, &layout, b) {
		s.put(which, layout, b.data[b.from:b.end], b.begin())
	}
}

// storeRest writes the blocks that are not full.
func (s *Spool) storeRest() {
	for i := range s.streams {
		s.mu.Lock()
		b := s.streams[i].filling
		s.mu.Unlock()
		if b != nil && b.end > b.from {
			s.store(Stream(i), b)
		}
	}
}

// layout returns where to write, false when nothing is to be written.
func (s *Spool) layout(which Stream) (stream, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	return *st, !s.removed && st.file != nil && st.kept() > 0
}

// storeDirect writes a whole block past the page cache, straight from its memory: a
// disk that fetches it by itself leaves the CPU to others, where the cache takes it
// page by page. False: not possible here, or failed; nothing is lost by put.
func (s *Spool) storeDirect(which Stream, layout *stream, b *block) bool {
	if s.pool.buffered.Load() || b.from != 0 || b.end != blockSize {
		return false
	}
	pos, room := layout.locate(b.off)
	if pos%pageSize != 0 || room < blockSize {
		return false
	}
	f, err := s.direct(which, layout)
	if err == nil {
		_, err = f.WriteAt(b.data, int64(pos))
	}
	if errors.Is(err, unix.EINVAL) {
		s.pool.buffered.Store(true) // the file system knows no such writes
	}
	return err == nil // a full disk is found full by put once more, which says so
}

// direct returns the file as it is written to directly.
func (s *Spool) direct(which Stream, layout *stream) (*os.File, error) {
	if layout.direct != nil {
		return layout.direct, nil
	}
	f, err := os.OpenFile(layout.name, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[which].direct = f
	return f, nil
}

// put writes b, which begins at off and is the last of its stream, to the file.
// All before it is there.
func (s *Spool) put(which Stream, layout stream, b []byte, off uint64) {
	err := layout.put(b, off)
	if err == nil {
		return
	}
	slog.Warn("output is dropped", "err", err)
	end := off + uint64(len(b))
	layout, ok := s.shrink(which, off, end)
	if ok && layout.put(b, off) != nil {
		s.abandon(which, end)
	}
}

// shrink limits a stream to what was written before off, after the file system
// refused more. The piece under way is the last one and ends at end.
func (s *Spool) shrink(which Stream, off, end uint64) (stream, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	if off > st.kept() {
		st.ring = 0 // it failed although nothing had to grow: trust the head only
	} else {
		st.resize(off)
	}
	st.low = st.lowAt(end)
	return *st, st.ring > 0
}

// abandon keeps the head alone, after a second failure.
func (s *Spool) abandon(which Stream, end uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.streams[which]
	st.ring = 0
	st.low = end
}
