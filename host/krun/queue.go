// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// maxQueued is what one stream's reader may be behind, in bytes. It is more
	// than HTTP/2 lets a guest send into a connection that is not read.
	maxQueued = 32 << 20
	// patience is how long the machine stands still for a reader that is behind
	// by all of that.
	patience = 5 * time.Second
	// chunk is what is read at once; keptBuffer is what a queue keeps when it is
	// empty.
	chunk      = 64 << 10
	keptBuffer = 1 << 20
)

var errSlowReader = errors.New("its reader is too slow")

// queue is between the VMM, which must be read at once because the whole machine
// waits for that, and a reader that may take its time.
type queue struct {
	mu       sync.Mutex
	data     []byte
	closed   bool
	patience time.Duration
	// filled and drained have room for one and say that it is worth looking again.
	filled, drained chan struct{}
}

func newQueue() *queue {
	return &queue{patience: patience, filled: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
}

// fill reads r to its end. It returns errSlowReader when there was no room for
// its patience.
func (q *queue) fill(r io.Reader) error {
	defer q.close()
	buf := make([]byte, chunk)
	timer := time.NewTimer(q.patience)
	defer timer.Stop()
	for {
		n, err := r.Read(buf)
		if n > 0 {
			timer.Reset(q.patience)
			for !q.put(buf[:n]) {
				select {
				case <-q.drained:
				case <-timer.C:
					return errSlowReader
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// put appends p if there is room. A queue that was given up takes everything.
func (q *queue) put(p []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.data)+len(p) > maxQueued && !q.closed {
		return false
	}
	if !q.closed {
		q.data = append(q.data, p...)
	}
	signal(q.filled)
	return true
}

// close lets empty end with what is queued, and fill go on without a reader.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	signal(q.filled)
	signal(q.drained)
}

// empty writes to w what comes, until fill has ended and nothing is left.
func (q *queue) empty(w io.Writer) error {
	defer q.close()
	var data []byte
	for {
		var ended bool
		if data, ended = q.swap(data); len(data) > 0 {
			if _, err := w.Write(data); err != nil {
				return err
			}
			continue
		}
		if ended {
			return nil
		}
		<-q.filled // fill closes the queue however it ends
	}
}

// swap takes what is queued and leaves the used buffer in its place.
func (q *queue) swap(used []byte) (data []byte, ended bool) {
	if cap(used) > keptBuffer {
		used = nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	data, q.data = q.data, used[:0]
	signal(q.drained)
	return data, q.closed
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
