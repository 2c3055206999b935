// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/guestd/process"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// TestMuchOutput has one stream that keeps up, one that reads nothing until
// the end, and one that comes late. The process waits for none of them.
func TestMuchOutput(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const total, limit = 100 << 20, 4 << 20
	start := shell(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", total))
	start.OutputLimitBytes = limit
	stalled, err := f.open(t.Context(), startRequest(start))
	require.NoError(t, err)
	_, err = stalled.Receive() // started, and no more until the end
	require.NoError(t, err)

	exited := f.awaitExit(t, start.GetExecId()) // reads along
	require.EqualValues(t, total, exited.GetStdoutBytes())
	require.EqualValues(t, total-limit, exited.GetStdoutDroppedBytes())
	require.Zero(t, exited.GetExitCode())

	stream, err := f.open(t.Context(), attachRequest(start.GetExecId(), nil))
	require.NoError(t, err)
	late, err := follow(stream, nil)
	require.NoError(t, err)
	require.EqualValues(t, limit, late.stdout.Len())
	require.EqualValues(t, total-limit, late.dropped)

	got := &result{}
	for got.exited == nil {
		msg, err := stalled.Receive()
		require.NoError(t, err)
		require.NoError(t, got.take(msg))
	}
	require.EqualValues(t, total, uint64(got.stdout.Len())+got.dropped)
}

type activity struct{ begun, ended atomic.Int64 }

func (a *activity) Begin() { a.begun.Add(1) }
func (a *activity) End()   { a.ended.Add(1) }

// TestManyAtOnce runs 200 execs at a time and then looks for leaks. It is not
// parallel: it counts goroutines and descriptors of the whole process.
func TestManyAtOnce(t *testing.T) {
	var act activity
	f := newFixture(t, func(c *process.Config) { c.Activity = &act })
	f.must(t, argv("true")) // opens the connection
	settled := func() (int, int) { return runtime.NumGoroutine(), descriptors(t) }
	goroutines, fds := settled()
	const n = 200
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r, err := f.do(shell(fmt.Sprintf("echo out %d; echo err %d >&2; exit %d", i, i, i)))
			switch {
			case err != nil:
				t.Error(err)
			case r.exited.GetExitCode() != int32(i) || r.exited.GetSpawnFailure() != nil,
				r.stdout.String() != fmt.Sprintf("out %d\n", i),
				r.stderr.String() != fmt.Sprintf("err %d\n", i):
				t.Errorf("exec %d: %v %q %q", i, r.exited, r.stdout.String(), r.stderr.String())
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return f.service.Running() == 0 }, 30*time.Second, time.Millisecond)
	// The client and the server end their goroutines a moment after the calls,
	// and the client may keep a second connection.
	require.Eventually(t, func() bool {
		g, d := settled()
		return g <= goroutines+10 && d <= fds+4
	}, 30*time.Second, 10*time.Millisecond, "goroutines or descriptors are leaked")
	require.EqualValues(t, n+1, act.begun.Load())
	require.EqualValues(t, n+1, act.ended.Load())
}

func BenchmarkTrue(b *testing.B) {
	f := newFixture(b)
	for b.Loop() {
		f.must(b, argv("true"))
	}
}

func BenchmarkOutput(b *testing.B) {
	f := newFixture(b)
	const total = 256 << 20
	b.SetBytes(total)
	for b.Loop() {
		start := argv("head", "-c", fmt.Sprint(total), "/dev/zero")
		start.OutputLimitBytes = total // the client need not keep up
		stream, err := f.open(b.Context(), startRequest(start))
		require.NoError(b, err)
		var seen int
		for {
			msg, err := stream.Receive()
			require.NoError(b, err)
			seen += len(msg.GetStdout().GetData())
			if msg.GetExited() != nil {
				break
			}
		}
		require.NoError(b, stream.CloseRequest())
		require.NoError(b, stream.CloseResponse())
		require.Equal(b, total, seen)
	}
}

// TestSpoolBudget fills the budget over and over: old output makes way, and
// every new exec keeps all of its own.
func TestSpoolBudget(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *process.Config) { c.SpoolBytes = 4 << 20 })
	var first string
	for range 6 {
		start := shell("head -c 2000000 /dev/zero")
		r := f.must(t, start)
		require.EqualValues(t, 2000000, r.stdout.Len())
		require.Zero(t, r.exited.GetStdoutDroppedBytes())
		if first == "" {
			first = start.GetExecId()
		}
		// The stream's end is seen a moment before it is counted out.
		require.Eventually(t, func() bool {
			got, err := f.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: start.GetExecId()}))
			return err == nil && got.Msg.GetExec().GetFollowers() == 0
		}, 30*time.Second, time.Millisecond)
	}
	_, err := f.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: first}))
	require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
}
