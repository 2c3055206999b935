// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reap

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// batch bounds the zombies that are buried under one hold of the lock, so that
// a fork bomb cannot keep new commands from starting.
const batch = 64

// ErrEnded is returned for a signal to a child that was reaped already.
var ErrEnded = errors.New("process has ended")

// Reaper waits for children. Its methods may be called concurrently.
type Reaper struct {
	all bool // first process: orphans are ours too

	// mu is held from before a fork until the child is registered, and while
	// statuses are collected. That makes two races impossible: a child that
	// ends before it is registered is not collected as an orphan, and a pid
	// cannot be given away between the look at it and the signal to it.
	mu       sync.Mutex
	children map[int]*Child

	sigchld chan os.Signal
	stop    chan struct{}
	stopped chan struct{}
}

// New starts a Reaper. As the first process of its pid namespace guestd reaps
// every child; elsewhere only those started through Start, so that it does no
// harm in a process it shares with others, such as a test.
func New() *Reaper {
	r := &Reaper{
		all:      os.Getpid() == 1,
		children: make(map[int]*Child),
		// One slot is enough: SIGCHLD says "look again", never how many.
		sigchld: make(chan os.Signal, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	signal.Notify(r.sigchld, unix.SIGCHLD)
	go r.run()
	return r
}

// Close stops the reaping and returns when its goroutine has ended. Children
// that still run keep running and their Done never closes.
func (r *Reaper) Close() {
	signal.Stop(r.sigchld)
	close(r.stop)
	<-r.stopped
}

// Start calls fork, which starts a process and returns its pid, and registers
// the child. fork runs with the Reaper locked: it must not call it back.
func (r *Reaper) Start(fork func() (pid int, err error)) (*Child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return nil, err
	}
	c := &Child{reaper: r, pid: pid, done: make(chan struct{})}
	r.children[pid] = c
	return c, nil
}

func (r *Reaper) run() {
	defer close(r.stopped)
	for {
		for r.collect() {
		}
		select {
		case <-r.sigchld:
		case <-r.stop:
			return
		}
	}
}

// collect takes the statuses that are ready and says whether more may be.
func (r *Reaper) collect() (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.all {
		for pid := range r.children {
			r.wait(pid)
		}
		return false
	}
	for range batch {
		if !r.wait(-1) {
			return false
		}
	}
	return true
}

// wait takes one status without blocking. r.mu is held.
func (r *Reaper) wait(pid int) bool {
	var (
		status unix.WaitStatus
		usage  unix.Rusage
	)
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, &usage)
	for errors.Is(err, unix.EINTR) {
		got, err = unix.Wait4(pid, &status, unix.WNOHANG, &usage)
	}
	if err != nil || got <= 0 {
		return false
	}
	if c := r.children[got]; c != nil {
		delete(r.children, got)
		c.status, c.usage = status, usage
		close(c.done)
	}
	return true
}

// Child is a process that was started through a Reaper.
type Child struct {
	reaper *Reaper
	pid    int
	done   chan struct{}

	// Written once before done is closed.
	status unix.WaitStatus
	usage  unix.Rusage
}

// Pid returns the process id. It may belong to another process once Done is
// closed; Signal is safe, a kill by number is not.
func (c *Child) Pid() int { return c.pid }

// Done is closed when the process has ended and its status is known.
func (c *Child) Done() <-chan struct{} { return c.done }

// Status returns how the process ended. It may be called after Done is closed.
func (c *Child) Status() unix.WaitStatus { return c.status }

// Usage returns what the process and the descendants it waited for have used.
// It may be called after Done is closed.
func (c *Child) Usage() unix.Rusage { return c.usage }

// Signal sends a signal to the process. It returns ErrEnded when the process
// is no more, and can never reach another process that got the same pid.
func (c *Child) Signal(sig unix.Signal) error {
	c.reaper.mu.Lock()
	defer c.reaper.mu.Unlock()
	if c.reaper.children[c.pid] != c {
		return ErrEnded
	}
	if err := unix.Kill(c.pid, sig); err != nil {
		return fmt.Errorf("signal process %d: %w", c.pid, err)
	}
	return nil
}
