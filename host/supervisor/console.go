// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
)

const (
	// headSize and tailSize bound console.log, in bytes: the beginning is the
	// boot, the end is the crash, and a guest may fill what lies between for
	// ever.
	headSize = 128 << 10
	tailSize = 256 << 10
)

// console is console.log. When the file is full, all but its head and the later
// half of its tail is dropped, so each byte is written at most twice.
type console struct {
	touch func() // called for each write: it is progress

	mu      sync.Mutex
	file    *os.File
	size    int64
	dropped int64
	err     error // the first failure; the guest is not stopped for it
}

func newConsole(dir string, touch func()) (*console, error) {
	f, err := os.OpenFile(ConsolePath(dir), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open console log: %w", err)
	}
	return &console{touch: touch, file: f}, nil
}

// Write never fails: the guest must not end because the host's disk is full.
func (c *console) Write(p []byte) (int, error) {
	c.touch()
	c.mu.Lock()
	defer c.mu.Unlock()
	for rest := p; len(rest) > 0 && c.err == nil; {
		room := headSize + tailSize - c.size
		if room <= 0 {
			c.err = c.compact()
			continue
		}
		piece := rest[:min(room, int64(len(rest)))]
		n, err := c.file.WriteAt(piece, c.size)
		c.size += int64(n)
		c.err = err
		rest = rest[n:]
	}
	return len(p), nil
}

// compact keeps the head, says how much was dropped, and appends the later half
// of the tail.
func (c *console) compact() error {
	tail := make([]byte, tailSize/2)
	from := c.size - int64(len(tail))
	if _, err := c.file.ReadAt(tail, from); err != nil {
		return err
	}
	c.dropped += from - headSize
	note := fmt.Sprintf("\n[about %d bytes of the console were dropped here]\n", c.dropped)
	if err := c.file.Truncate(headSize); err != nil {
		return err
	}
	data := append([]byte(note), tail...)
	n, err := c.file.WriteAt(data, headSize)
	c.size = headSize + int64(n)
	return err
}

// ConsoleTail returns the last lines of the console of the machine in dir, alive or
// dead, at most n bytes, as tail does. No console is no lines.
func ConsoleTail(dir string, n int64) string {
	f, err := os.Open(ConsolePath(dir))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	return (&console{file: f, size: info.Size()}).tail(n)
}

// tail returns the last lines, at most n bytes, without control characters: it
// is shown on terminals and the guest wrote it.
func (c *console) tail(n int64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := max(0, c.size-n)
	data, err := io.ReadAll(io.NewSectionReader(c.file, from, c.size-from))
	if err != nil {
		return ""
	}
	text := Printable(string(data))
	if _, rest, cut := strings.Cut(text, "\n"); cut && from > 0 {
		text = rest
	}
	return strings.TrimSpace(text)
}

// close returns what kept the log from being written.
func (c *console) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.file.Close(); c.err == nil {
		c.err = err
	}
	return c.err
}

// Printable takes out what a terminal would obey: text that a guest wrote.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
