// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// paced writes total bytes, far more than is kept of them.
func paced(total int) *guestv1.Start {
	start := shell(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", total))
	start.OutputPolicy = guestv1.OutputPolicy_OUTPUT_POLICY_WAIT
	start.OutputLimitBytes = 4 << 20
	return start
}

// written is how much the exec has written once it writes no more.
func (f *fixture) written(t *testing.T, id string) uint64 {
	t.Helper()
	var last uint64
	since := time.Now()
	require.Eventually(t, func() bool {
		got, err := f.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: id}))
		if err != nil {
			return false // it is not there yet
		}
		if n := got.Msg.GetExec().GetStdoutBytes(); n != last || n == 0 {
			last, since = n, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	}, 30*time.Second, 10*time.Millisecond)
	return last
}

// TestOutputWaits has followers that stand still for a while: the process does
// too, and each of them gets every byte.
func TestOutputWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const total = 50 << 20
	start := paced(total)
	var streams []*runClient
	for range 2 {
		stream, err := f.open(t.Context(), startRequest(start)) // and read nothing for now
		require.NoError(t, err)
		streams = append(streams, stream)
	}
	require.Less(t, f.written(t, start.GetExecId()), uint64(total)/2)

	done := make(chan error, len(streams))
	for _, stream := range streams {
		go func() {
			got, err := follow(stream, nil)
			switch {
			case err != nil:
			case got.dropped > 0 || !bytes.Equal(got.stdout.Bytes(), bytes.Repeat([]byte("x"), total)):
				err = fmt.Errorf("%d bytes, %d dropped", got.stdout.Len(), got.dropped)
			}
			done <- err
		}()
	}
	for range streams {
		require.NoError(t, <-done)
	}
}

// TestWaitingEnds: an exec that waits for a follower ends by its timeout, by a
// signal, and when the follower goes.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, f *fixture, id string, leave func()){
		"timeout": nil,
		"signal": func(t *testing.T, f *fixture, id string, _ func()) {
			_, err := f.Signal(t.Context(), connect.NewRequest(&guestv1.ProcessSignalRequest{ExecId: id, Signal: int32(unix.SIGKILL), All: true}))
			require.NoError(t, err)
		},
		"detach": func(_ *testing.T, _ *fixture, _ string, leave func()) { leave() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			start := paced(1 << 30)
			if end == nil {
				start.Timeout = durationpb.New(2 * time.Second)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := f.open(ctx, startRequest(start))
			require.NoError(t, err)
			require.Less(t, f.written(t, start.GetExecId()), uint64(1<<30))
			if end != nil {
				end(t, f, start.GetExecId(), func() { cut(cancel, stream) })
			}
			require.Eventually(t, func() bool { return f.service.Running() == 0 }, 20*time.Second, time.Millisecond)
			got, err := f.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: start.GetExecId()}))
			require.NoError(t, err)
			exited := got.Msg.GetExec().GetExited()
			require.Equal(t, end == nil, exited.GetTimedOut())
			require.Equal(t, end != nil, exited.GetCancelled())
		})
	}
}

// TestNobodyToWaitFor: without followers the process does not wait.
func TestNobodyToWaitFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	start := paced(20 << 20)
	start.OnDetach = guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := f.open(ctx, startRequest(start))
	require.NoError(t, err)
	_, err = stream.Receive()
	require.NoError(t, err)
	f.written(t, start.GetExecId())
	cut(cancel, stream)
	require.Eventually(t, func() bool { return f.service.Running() == 0 }, 20*time.Second, time.Millisecond)
	got, err := f.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: start.GetExecId()}))
	require.NoError(t, err)
	require.EqualValues(t, 20<<20, got.Msg.GetExec().GetStdoutBytes())
	require.Zero(t, got.Msg.GetExec().GetExited().GetExitCode())
}
