// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// marked returns the processes that have the mark in their environment, zombies
// (whose environment is gone) left out. It finds those that have escaped too.
func marked(t testing.TB, mark string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	var found []string
	for _, e := range entries {
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(env, []byte("WAGGLE_TEST_MARK="+mark+"\x00")) {
			found = append(found, e.Name())
		}
	}
	return found
}

func mark(start *guestv1.Start) *guestv1.Start {
	start.Env = map[string]string{"WAGGLE_TEST_MARK": start.GetExecId() + fmt.Sprint(os.Getpid())}
	return start
}

func markOf(start *guestv1.Start) string { return start.GetEnv()["WAGGLE_TEST_MARK"] }

// TestTimeoutEndsEverything has 20 children that are forked twice. With control
// groups they also leave the session; nothing else could find those.
func TestTimeoutEndsEverything(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture) {
		setsid := ""
		if f.tree != nil {
			setsid = "setsid"
		}
		start := mark(shell(`trap '' TERM
			for i in $(seq 20); do ` + setsid + ` sh -c "trap '' TERM; ` + setsid + ` sleep 300 & :" ; done
			echo ready; wait; sleep 300`))
		start.Timeout = durationpb.New(2 * time.Second)
		start.KillGrace = durationpb.New(100 * time.Millisecond)
		stream, err := f.open(t.Context(), startRequest(start))
		require.NoError(t, err)
		got := &result{}
		firstLine(t, stream, got)
		// A process that is about to exec has no environment to be seen.
		require.Eventually(t, func() bool { return len(marked(t, markOf(start))) >= 21 }, time.Second, time.Millisecond)
		for got.exited == nil {
			msg, err := stream.Receive()
			require.NoError(t, err)
			require.NoError(t, got.take(msg))
		}
		require.True(t, got.exited.GetTimedOut())
		require.False(t, got.exited.GetCancelled())
		require.EqualValues(t, unix.SIGKILL, got.exited.GetSignal())
		require.Equal(t, "ready\n", got.stdout.String())
		require.Empty(t, marked(t, markOf(start)))
	})
}

func TestLeftRunning(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture) {
		// The child holds stdout, so the end of file never comes by itself.
		start := mark(shell("sleep 300 & echo main; exit 3"))
		r := f.must(t, start)
		require.EqualValues(t, 3, r.exited.GetExitCode())
		require.EqualValues(t, 1, r.exited.GetLeftRunning())
		require.False(t, r.exited.GetTimedOut() || r.exited.GetCancelled())
		require.Equal(t, "main\n", r.stdout.String())
		require.Empty(t, marked(t, markOf(start)))

		// What a child still writes in its time is not lost.
		r = f.must(t, shell("(sleep 0.1; echo late) & echo main"))
		require.Equal(t, "main\nlate\n", r.stdout.String())
		require.Zero(t, r.exited.GetLeftRunning())
	})
}

// TestPipeHeldOutside needs no control groups: a process that has escaped the
// session holds the pipe, and the stream ends all the same.
func TestPipeHeldOutside(t *testing.T) {
	t.Parallel()
	f := newFixtureWith(t, nil)
	start := mark(shell("setsid sh -c 'echo $$; exec sleep 20' & sleep 0.2"))
	r := f.must(t, start)
	require.Zero(t, r.exited.GetExitCode())
	left := marked(t, markOf(start))
	require.Len(t, left, 1)
	require.Equal(t, strings.TrimSpace(r.stdout.String()), left[0])
	var pid int
	_, err := fmt.Sscan(left[0], &pid)
	require.NoError(t, err)
	require.NoError(t, unix.Kill(pid, unix.SIGKILL)) // ours: it bears the mark
}

func TestKeepChildren(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture) {
		start := mark(shell("(trap 'echo bye; exit 0' TERM; echo child; while :; do sleep 0.1; done) & sleep 0.3; echo main"))
		start.KeepChildren = true
		start.KillGrace = durationpb.New(20 * time.Second)
		r := f.must(t, start)
		require.Zero(t, r.exited.GetExitCode())
		require.Positive(t, r.exited.GetLeftRunning())
		require.Equal(t, "child\nmain\n", r.stdout.String())
		require.NotEmpty(t, marked(t, markOf(start)))
		require.Equal(t, 1, f.service.Running())

		_, err := f.Signal(t.Context(), connect.NewRequest(&guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Terminate: true}))
		require.NoError(t, err)
		require.Eventually(t, func() bool { return f.service.Running() == 0 }, 30*time.Second, time.Millisecond)
		require.Empty(t, marked(t, markOf(start)))
		// What it wrote later is there for those who attach later.
		stream, err := f.open(t.Context(), attachRequest(start.GetExecId(), &guestv1.Cursor{StdoutOffset: 11}))
		require.NoError(t, err)
		later, err := follow(stream, r.stdout.Bytes())
		require.NoError(t, err)
		require.Equal(t, "child\nmain\nbye\n", later.stdout.String())
		require.True(t, later.exited.GetCancelled())
	})
}

func TestDetach(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture) {
		start := mark(shell("echo ready; sleep 300"))
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := f.open(ctx, startRequest(start))
		require.NoError(t, err)
		firstLine(t, stream, &result{})
		cut(cancel, stream)
		// Attaching would make it followed again, so this asks.
		var exited *guestv1.Exited
		require.Eventually(t, func() bool {
			got, err := f.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: start.GetExecId()}))
			require.NoError(t, err)
			exited = got.Msg.GetExec().GetExited()
			return exited != nil
		}, 30*time.Second, time.Millisecond)
		require.True(t, exited.GetCancelled())
		require.EqualValues(t, unix.SIGTERM, exited.GetSignal())
		require.Empty(t, marked(t, markOf(start)))
	})
}

// TestShutdownGrace: it may be longer than an exec's own.
func TestShutdownGrace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	start := mark(shell("trap 'sleep 1; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"))
	start.KillGrace = durationpb.New(time.Millisecond)
	stream, err := f.open(t.Context(), startRequest(start))
	require.NoError(t, err)
	r := &result{}
	firstLine(t, stream, r)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, f.service.Shutdown(ctx, time.Minute))
	require.Empty(t, marked(t, markOf(start)))
	got, err := f.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: start.GetExecId()}))
	require.NoError(t, err)
	require.EqualValues(t, len("ready\nsaved\n"), got.Msg.GetExec().GetStdoutBytes())
	require.Zero(t, got.Msg.GetExec().GetExited().GetExitCode())
	require.True(t, got.Msg.GetExec().GetExited().GetCancelled())
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	start := mark(shell("trap '' TERM; echo ready; while :; do sleep 0.1; done"))
	start.KillGrace = durationpb.New(time.Minute)
	stream, err := f.open(t.Context(), startRequest(start))
	require.NoError(t, err)
	firstLine(t, stream, &result{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, f.service.Shutdown(ctx, 10*time.Millisecond))
	require.Empty(t, marked(t, markOf(start)))
	_, err = f.do(argv("true"))
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
}
