// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
)

const holeSize = 4096

// sparseFile is a new file in which blocks of zeros stay holes. Only what lies
// beyond everything written so far may be left out: an earlier place may hold
// other bytes already.
type sparseFile struct {
	f   *os.File
	pos int64
	end int64 // the highest position written or skipped
}

func (s *sparseFile) Read(p []byte) (int, error) {
	n, err := s.f.ReadAt(p, s.pos)
	s.pos += int64(n)
	return n, err
}

func (s *sparseFile) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		s.pos = off
	case io.SeekCurrent:
		s.pos += off
	case io.SeekEnd:
		s.pos = s.end + off
	}
	return s.pos, nil
}

func (s *sparseFile) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		// A run is a stretch of blocks that are all zero or all not.
		run, zero := 0, false
		for done+run < len(p) {
			size := min(len(p)-done-run, holeSize-int((s.pos+int64(run))%holeSize))
			z := s.pos+int64(run) >= s.end && isZero(p[done+run:done+run+size])
			if run > 0 && z != zero {
				break
			}
			run, zero = run+size, z
		}
		if !zero {
			if n, err := s.f.WriteAt(p[done:done+run], s.pos); err != nil {
				return done + n, err
			}
		}
		done += run
		s.pos += int64(run)
		s.end = max(s.end, s.pos)
	}
	return len(p), nil
}

// finish gives the file its full length, which trailing holes do not, and mends what
// the ext4 writer leaves unlike the kernel wants it.
func (s *sparseFile) finish() error {
	if err := s.f.Truncate(s.end); err != nil {
		return fmt.Errorf("set size of disk: %w", err)
	}
	g, err := readGeometry(s.f)
	if err != nil {
		return err
	}
	return errors.Join(padBitmaps(s.f, g), sortXattrs(s.f, g))
}

func isZero(p []byte) bool {
	for len(p) >= 8 {
		if p[0]|p[1]|p[2]|p[3]|p[4]|p[5]|p[6]|p[7] != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
