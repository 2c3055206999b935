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

const (
	// firstLine is how long work goes on without a word where no terminal shows it:
	// a log needs none of what is over so soon.
	firstLine = time.Second
	// nextLine is the least time between two lines there.
	nextLine = 5 * time.Second
)

// progress says what is being done: on a terminal in one line that is rewritten, and
// elsewhere in plain lines, few enough for a log. Its methods may be called
// concurrently.
type progress struct {
	mu       sync.Mutex
	w        io.Writer // nil says nothing
	terminal bool
	began    time.Time

	// What follows is for plain lines. unsaid is the step that begins since the last
	// line, due the time at which one may be said, and timer says it then.
	unsaid string
	due    time.Time
	timer  *time.Timer
	ended  bool
}

func newProgress(f *os.File, quiet bool) *progress {
	if quiet {
		return &progress{}
	}
	return startProgress(f, term.IsTerminal(int(f.Fd())))
}

func startProgress(w io.Writer, terminal bool) *progress {
	now := time.Now()
	return &progress{w: w, terminal: terminal, began: now, due: now.Add(firstLine)}
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
		p.unsaid = what
		if p.timer == nil && !p.ended {
			p.timer = time.AfterFunc(time.Until(p.due), p.say)
		}
	}
}

// fact says in a line what stays true, at once and everywhere: unlike a step it is
// neither rewritten nor left out.
func (p *progress) fact(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.w == nil:
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K%s\n", what)
	default:
		fmt.Fprintln(p.w, what)
	}
}

// say says the newest step.
func (p *progress) say() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	now := time.Now()
	fmt.Fprintf(p.w, "%5.1fs  %s\n", now.Sub(p.began).Seconds(), p.unsaid)
	p.due, p.timer = now.Add(nextLine), nil
}

// clear takes the line off the terminal while something else is shown there.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil && p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// done takes the line off the terminal. Elsewhere nothing more is said.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.w != nil && p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
