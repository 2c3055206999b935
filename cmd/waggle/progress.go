// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress says on a terminal, in one line that is rewritten, and elsewhere in
// plain lines, what is being done. Its methods may be called concurrently.
type progress struct {
	mu       sync.Mutex
	w        io.Writer // nil says nothing
	terminal bool
	began    time.Time
}

func newProgress(f *os.File, quiet bool) *progress {
	if quiet {
		return &progress{}
	}
	return &progress{w: f, terminal: term.IsTerminal(int(f.Fd())), began: time.Now()}
}

// step begins a step.
func (p *progress) step(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.w == nil:
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K%5.1fs  %s", time.Since(p.began).Seconds(), what)
	default:
		fmt.Fprintf(p.w, "%5.1fs  %s\n", time.Since(p.began).Seconds(), what)
	}
}

// done takes the line off the terminal.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil && p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
