// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

// fifo is a ring buffer of recvWindow bytes. It allocates on the first put and
// keeps the buffer until clear: a stream that stalled once will stall again.
type fifo struct {
	buf     []byte
	head, n int
}

func (f *fifo) len() int { return f.n }

// put appends segs. The caller has checked that they fit.
func (f *fifo) put(segs [][]byte) {
	if f.buf == nil {
		f.buf = make([]byte, recvWindow)
	}
	for _, seg := range segs {
		for len(seg) > 0 {
			tail := (f.head + f.n) % len(f.buf)
			end := len(f.buf)
			if tail < f.head {
				end = f.head
			}
			c := copy(f.buf[tail:end], seg)
			f.n += c
			seg = seg[c:]
		}
	}
}

// views appends the content to iov, as one or two pieces.
func (f *fifo) views(iov [][]byte) [][]byte {
	first := min(f.n, len(f.buf)-f.head)
	iov = append(iov, f.buf[f.head:f.head+first])
	if first < f.n {
		iov = append(iov, f.buf[:f.n-first])
	}
	return iov
}

// drop removes the first n bytes.
func (f *fifo) drop(n int) {
	f.head = (f.head + n) % len(f.buf)
	f.n -= n
}

func (f *fifo) clear() { *f = fifo{} }
