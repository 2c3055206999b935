// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stacklok/waggle/host/vm"
)

// progressFactor bounds a boot that goes on and on without ending, as a guest
// can that writes to its console for ever.
const progressFactor = 8

var (
	errNoProgress = errors.New("the guest made no progress")
	errTooLong    = errors.New("the guest boots without end")
)

// readySlot takes the one call that guestd makes in a boot and refuses others.
type readySlot struct {
	taken atomic.Bool
	conns chan net.Conn
}

func newReady() *readySlot { return &readySlot{conns: make(chan net.Conn, 1)} }

// take is vm.Spec.Ready.
func (r *readySlot) take(conn net.Conn) {
	if r.taken.Swap(true) {
		_ = conn.Close()
		return
	}
	r.conns <- conn
}

func (r *readySlot) wait(ctx context.Context, m vm.Machine) (net.Conn, error) {
	select {
	case conn := <-r.conns:
		return conn, nil
	case <-m.Done():
		return nil, fmt.Errorf("the machine ended while it booted: %w", m.Err())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// close refuses calls from now on, and the one that nobody waited for.
func (r *readySlot) close() {
	if r.taken.Swap(true) {
		select {
		case conn := <-r.conns:
			_ = conn.Close()
		default:
		}
	}
}

// watchdog cancels a boot that stands still.
type watchdog struct {
	limit time.Duration
	mu    sync.Mutex
	timer *time.Timer
	total *time.Timer
	done  bool
}

func newWatchdog(limit time.Duration, cancel context.CancelCauseFunc) *watchdog {
	return &watchdog{
		limit: limit,
		timer: time.AfterFunc(limit, func() { cancel(errNoProgress) }),
		total: time.AfterFunc(limit*progressFactor, func() { cancel(errTooLong) }),
	}
}

// touch notes progress. It may be called concurrently and after stop.
func (w *watchdog) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.timer.Reset(w.limit)
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.timer.Stop()
	w.total.Stop()
}
