// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// name is the true name.
func (r lsRow) name() string {
	if len(r.PathBytes) > 0 {
		return string(r.PathBytes)
	}
	return r.Path
}

// quoted is a name as it is or, when it has what could move the cursor or is not
// UTF-8, with escapes between quotes.
func quoted(name string) string {
	if q := strconv.Quote(name); q[1:len(q)-1] != name {
		return q
	}
	return name
}

// typeLetters are the first letters of ls -l.
var typeLetters = map[guestv1.FileType]byte{
	guestv1.FileType_FILE_TYPE_REGULAR:      '-',
	guestv1.FileType_FILE_TYPE_DIRECTORY:    'd',
	guestv1.FileType_FILE_TYPE_SYMLINK:      'l',
	guestv1.FileType_FILE_TYPE_FIFO:         'p',
	guestv1.FileType_FILE_TYPE_SOCKET:       's',
	guestv1.FileType_FILE_TYPE_CHAR_DEVICE:  'c',
	guestv1.FileType_FILE_TYPE_BLOCK_DEVICE: 'b',
}

// modeString is the mode as ls -l prints it (POSIX.1-2017, ls, "Long format").
func modeString(e *guestv1.Entry) string {
	out := []byte("?rwxrwxrwx")
	if letter, ok := typeLetters[e.GetType()]; ok {
		out[0] = letter
	}
	for i := range 9 {
		if e.GetMode()&(0o400>>i) == 0 {
			out[i+1] = '-'
		}
	}
	for _, special := range []struct {
		bit uint32
		at  int
		set string // with the permission to execute, and without
	}{{0o4000, 3, "sS"}, {0o2000, 6, "sS"}, {0o1000, 9, "tT"}} {
		if e.GetMode()&special.bit == 0 {
			continue
		}
		if out[special.at] == '-' {
			out[special.at] = special.set[1]
		} else {
			out[special.at] = special.set[0]
		}
	}
	return string(out)
}
