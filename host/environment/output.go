// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxOutput is the most that is kept of each stream, in bytes: the first and the
// last half. It is more than a model can read; what must be whole belongs in a
// file.
const maxOutput = 256 << 10

// Output is what a process wrote to one stream.
type Output struct {
	// Text is the output, with a line that says how much was cut where it was.
	// Bytes that are not UTF-8 are U+FFFD.
	Text string
	// Bytes were written, CutBytes of them are not in Text.
	Bytes, CutBytes int64
}

// collector keeps the beginning and the end of a stream.
type collector struct {
	head []byte
	tail []byte // the last bytes, as a ring once it is full
	next int    // where the ring goes on
	seen int64
	also func([]byte) // told every piece; may be nil
}

// Write implements io.Writer and never fails.
func (c *collector) Write(p []byte) (int, error) {
	if c.also != nil {
		c.also(p)
	}
	n := len(p)
	c.seen += int64(n)
	const half = maxOutput / 2
	if room := half - len(c.head); room > 0 {
		k := min(room, len(p))
		c.head, p = append(c.head, p[:k]...), p[k:]
	}
	if len(p) > half {
		p = p[len(p)-half:]
	}
	if room := half - len(c.tail); room > 0 {
		k := min(room, len(p))
		c.tail, p = append(c.tail, p[:k]...), p[k:]
	}
	for len(p) > 0 {
		k := copy(c.tail[c.next:], p)
		c.next, p = (c.next+k)%half, p[k:]
	}
	return n, nil
}

// output returns what was kept. written is what the guest counted, which is more
// than what arrived when the guest dropped some itself.
func (c *collector) output(written uint64) Output {
	tail := append(append([]byte(nil), c.tail[c.next:]...), c.tail[:c.next]...)
	o := Output{Bytes: max(c.seen, int64(min(written, 1<<62)))}
	o.CutBytes = o.Bytes - int64(len(c.head)) - int64(len(tail))
	if o.CutBytes == 0 {
		o.Text = strings.ToValidUTF8(string(c.head)+string(tail), "\uFFFD")
		return o
	}
	head := trimEnd(c.head)
	tail = trimStart(tail)
	o.CutBytes = o.Bytes - int64(len(head)) - int64(len(tail))
	o.Text = strings.ToValidUTF8(string(head), "\uFFFD") +
		fmt.Sprintf("\n[... %d of %d bytes cut here ...]\n", o.CutBytes, o.Bytes) +
		strings.ToValidUTF8(string(tail), "\uFFFD")
	return o
}

// trimEnd cuts a character that is not whole.
func trimEnd(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if at := len(b) - i; utf8.RuneStart(b[at]) {
			if !utf8.FullRune(b[at:]) {
				return b[:at]
			}
			break
		}
	}
	return b
}

// trimStart cuts the rest of a character that is not whole.
func trimStart(b []byte) []byte {
	for i := 0; i < utf8.UTFMax-1 && i < len(b); i++ {
		if utf8.RuneStart(b[i]) {
			return b[i:]
		}
	}
	return b
}
