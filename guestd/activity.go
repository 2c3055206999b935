// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd

import (
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// passive procedures watch the machine without using it. Configure is among them
// because the host keeps the clock right by it, and Probe because it runs nothing.
var passive = map[string]bool{
	guestv1connect.SystemInfoProcedure:      true,
	guestv1connect.SystemMetricsProcedure:   true,
	guestv1connect.SystemConfigureProcedure: true,
	guestv1connect.ProcessProbeProcedure:    true,
}

// activity counts what uses the machine. Its methods may be called concurrently.
type activity struct {
	mu    sync.Mutex
	calls int
	execs int
	last  time.Time // end of the last activity
}

func newActivity() *activity { return &activity{last: time.Now()} }

// add changes a counter of activity, calls or execs.
func (a *activity) add(counter *int, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*counter += n
	a.last = time.Now()
}

// Begin counts an exec.
func (a *activity) Begin() { a.add(&a.execs, 1) }

// End counts an exec out.
func (a *activity) End() { a.add(&a.execs, -1) }

// Activity returns the calls that run, and the time since the last call or exec
// ended.
func (a *activity) Activity() (calls int, idle time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls == 0 && a.execs == 0 {
		idle = time.Since(a.last)
	}
	return a.calls, idle
}

// WrapUnary counts unary calls.
func (a *activity) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if !passive[req.Spec().Procedure] {
			a.add(&a.calls, 1)
			defer a.add(&a.calls, -1)
		}
		return next(ctx, req)
	}
}

// WrapStreamingHandler counts streams.
func (a *activity) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if !passive[conn.Spec().Procedure] {
			a.add(&a.calls, 1)
			defer a.add(&a.calls, -1)
		}
		return next(ctx, conn)
	}
}

// WrapStreamingClient does nothing: guestd is no client.
func (a *activity) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}
