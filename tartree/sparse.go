// SPDX-License-Identifier: Apache-2.0

package tartree

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"
)

// noTime leaves a time out of a header.
var noTime time.Time

// segment is a piece of a file that has data, in bytes.
type segment struct{ offset, length int64 }

const (
	// maxSegments bounds the map of one file: beyond it the file is packed as
	// if it had no holes.
	maxSegments = 10_000
	// minHole is the least that holes must save together.
	minHole   = 64 << 10
	blockSize = 512
)

// sparse says whether it is worth while to leave the holes out.
func sparse(data []segment, size int64) bool {
	var full int64
	for _, s := range data {
		full += s.length
	}
	return len(data) <= maxSegments && size-full >= minHole
}

// sparseWriter writes one file with holes as GNU tar does in its PAX 1.0 format
// ("GNU tar: Storing Sparse Files"): the map stands before the data. archive/tar
// reads the format and does not write it.
type sparseWriter struct {
	w    io.Writer
	left int64 // bytes that the header promised
	size int64
}

// begin writes the headers and the map.
func (s *sparseWriter) begin(h *tar.Header, data []segment) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", len(data))
	var full int64
	for _, d := range data {
		fmt.Fprintf(&b, "%d\n%d\n", d.offset, d.length)
		full += d.length
	}
	sparseMap := pad([]byte(b.String()))
	records := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
		record("GNU.sparse.name", h.Name) + record("GNU.sparse.realsize", strconv.FormatInt(h.Size, 10)) +
		record("mtime", fmt.Sprintf("%d.%09d", h.ModTime.Unix(), h.ModTime.Nanosecond())) +
		record("uid", strconv.Itoa(h.Uid)) + record("gid", strconv.Itoa(h.Gid))
	s.size = int64(len(sparseMap)) + full
	s.left = s.size
	records += record("size", strconv.FormatInt(s.size, 10))
	short := path.Base(h.Name)
	short = "GNUSparseFile.0/" + short[:min(len(short), 80)]
	for _, block := range [][]byte{
		ustar("x", "PaxHeaders.0/sparse", int64(len(records)), 0o644, 0), pad([]byte(records)),
		ustar("0", short, s.size, h.Mode, h.ModTime.Unix()), sparseMap,
	} {
		if _, err := s.w.Write(block); err != nil {
			return err
		}
	}
	s.left -= int64(len(sparseMap))
	return nil
}

func (s *sparseWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > s.left {
		return 0, tar.ErrWriteTooLong
	}
	n, err := s.w.Write(p)
	s.left -= int64(n)
	return n, err
}

// end fills the last block up.
func (s *sparseWriter) end() error {
	if s.left != 0 {
		return fmt.Errorf("%d bytes of a file are missing", s.left)
	}
	_, err := s.w.Write(make([]byte, (blockSize-s.size%blockSize)%blockSize))
	return err
}

func pad(p []byte) []byte { return append(p, make([]byte, (blockSize-len(p)%blockSize)%blockSize)...) }

// record is one PAX record: its length in decimal, which counts itself, a space,
// key=value and a newline.
func record(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest) + 1
	for len(strconv.Itoa(n))+len(rest) != n {
		n = len(strconv.Itoa(n)) + len(rest)
	}
	return strconv.Itoa(n) + rest
}

// ustar is the header block of POSIX.1-1988, for values that PAX records carry
// as well where they do not fit.
func ustar(kind, name string, size, mode, mtime int64) []byte {
	b := make([]byte, blockSize)
	field := func(at, width int, v int64) {
		if v < 0 || v >= 1<<(3*(width-1)) {
			v = 0 // a PAX record says it
		}
		copy(b[at:], fmt.Sprintf("%0*o", width-1, v))
	}
	copy(b[:100], name)
	field(100, 8, mode)
	field(108, 8, 0)
	field(116, 8, 0)
	field(124, 12, size)
	field(136, 12, mtime)
	copy(b[148:], "        ") // the sum counts itself as blanks
	copy(b[156:], kind)
	copy(b[257:], "ustar\x0000")
	var sum int64
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}
