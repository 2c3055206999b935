// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

const (
	// suffix marks the files that belong to a pool.
	suffix = ".spool"
	// floor is what a stream gets even when the budget is used up, so that a
	// short result is never lost for the sake of old ones.
	floor = 64 << 10
	// grain is the step in which streams take from the budget.
	grain = 256 << 10
)

// Pool is a directory of spools. Its methods may be called concurrently.
type Pool struct {
	dir    string
	max    atomic.Int64
	free   func() bool // removes a spool that is not needed; false: there is none
	used   atomic.Int64
	serial atomic.Uint64
	// buffered: the file system knows no direct writes.
	buffered atomic.Bool
}

// NewPool makes the directory and removes the spools that an earlier owner left
// there. max is the budget in bytes for all spools together. When it is used up
// free is called, by many goroutines at once, until it has removed enough or
// returns false; it may be nil.
func NewPool(dir string, max int64, free func() bool) (*Pool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create spool directory: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return nil, fmt.Errorf("look for old spools: %w", err)
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return nil, fmt.Errorf("remove old spool: %w", err)
		}
	}
	p := &Pool{dir: dir, free: free}
	p.max.Store(max)
	return p, nil
}

// New returns an empty spool that keeps at most limit bytes of each stream. The
// caller calls Remove. Files appear with the first byte of their stream.
func (p *Pool) New(limit uint64) *Spool {
	s := &Spool{
		pool: p, changed: make(chan struct{}),
		readers: make(map[*Reader]struct{}), moved: make(chan struct{}),
	}
	base := filepath.Join(p.dir, strconv.FormatUint(p.serial.Add(1), 10))
	for i := range s.streams {
		st := &s.streams[i]
		st.name = base + "." + strconv.Itoa(i+1) + suffix
		st.resize(limit)
	}
	return s
}

// SetMax changes the budget. What is used beyond it stays until room is made.
func (p *Pool) SetMax(max int64) { p.max.Store(max) }

// Used returns the bytes that spools hold of the budget.
func (p *Pool) Used() int64 { return p.used.Load() }

// makeRoom frees spools until one more step of growth fits.
func (p *Pool) makeRoom() {
	for p.free != nil && p.used.Load()+grain > p.max.Load() && p.free() {
	}
}

// take reserves n bytes; force takes them whether or not they are there.
func (p *Pool) take(n uint64, force bool) bool {
	if p.used.Add(int64(n)) <= p.max.Load() || force {
		return true
	}
	p.used.Add(-int64(n))
	return false
}

func (p *Pool) give(n uint64) { p.used.Add(-int64(n)) }
