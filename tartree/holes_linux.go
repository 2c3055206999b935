// SPDX-License-Identifier: Apache-2.0

package tartree

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dataOf returns the pieces of a file that are no holes (lseek(2), SEEK_DATA). A
// file system that knows no holes says that all is data.
func dataOf(file *os.File, size int64) ([]segment, error) {
	var data []segment
	fd := int(file.Fd())
	for at := int64(0); at < size; {
		begin, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole from here on
			break
		}
		if err != nil {
			return []segment{{0, size}}, nil
		}
		end, err := unix.Seek(fd, begin, unix.SEEK_HOLE)
		if err != nil || end <= begin {
			return []segment{{0, size}}, nil
		}
		begin, end = min(begin, size), min(end, size)
		data = append(data, segment{begin, end - begin})
		if len(data) > maxSegments {
			return []segment{{0, size}}, nil
		}
		at = end
	}
	// The map ends where the file does, or a reader could not know its size.
	if n := len(data); n == 0 || data[n-1].offset+data[n-1].length < size {
		data = append(data, segment{size, 0})
	}
	return data, nil
}
