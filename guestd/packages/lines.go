// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"bytes"
	"strings"
)

// lines cuts the two streams of a manager into lines and keeps the last ones.
type lines struct {
	stdout, stderr cutter
	last           []string
	size           int // of last, in bytes
}

// newLines returns lines that are handed to emit, one at a time.
func newLines(emit func(string) error) *lines {
	l := &lines{}
	each := func(text string) error {
		l.keep(text)
		return emit(text)
	}
	l.stdout.emit, l.stderr.emit = each, each
	return l
}

func (l *lines) keep(text string) {
	l.last = append(l.last, text)
	l.size += len(text) + 1
	for l.size > maxMessage {
		l.size -= len(l.last[0]) + 1
		l.last = l.last[1:]
	}
}

// tail is the last lines, at most maxMessage bytes.
func (l *lines) tail() string { return strings.Join(l.last, "\n") }

// cutter finds the lines of one stream. A carriage return ends one too: managers
// draw progress with it.
type cutter struct {
	emit func(string) error
	rest []byte // at most maxLine bytes
}

func (c *cutter) write(data []byte) error {
	for len(data) > 0 {
		end := bytes.IndexAny(data, "\r\n")
		part := data
		if end >= 0 {
			part, data = data[:end], data[end+1:]
		} else {
			data = nil
		}
		room := maxLine - len(c.rest)
		c.rest = append(c.rest, part[:min(room, len(part))]...) // the rest of a long line is dropped
		if end >= 0 {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush hands out a line that has no end yet. Empty lines are left out.
func (c *cutter) flush() error {
	// One byte for each that is not UTF-8, so that the line grows no longer.
	text := strings.TrimRight(strings.ToValidUTF8(string(c.rest), "?"), " \t")
	c.rest = c.rest[:0]
	if text == "" {
		return nil
	}
	return c.emit(text)
}
