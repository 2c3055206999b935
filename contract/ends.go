// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Signals of Linux, which the contract gives by number.
const (
	sigKill = int32(syscall.SIGKILL)
	sigTerm = int32(syscall.SIGTERM)
	sigSegv = int32(syscall.SIGSEGV)
	sigUsr1 = 10
)

// ends is how a client ends a command.
func ends() []Scenario {
	return []Scenario{
		{"signals", None, signals},
		{"terminate", None, terminate},
		{"detach ends", None, detachEnds},
		{"a broken stream ends nothing", None, comesBack},
		{"detach keeps running", None, detachKeeps},
	}
}

func signals(ctx context.Context, t *testing.T, g *Guest) {
	f := g.run(ctx, t, shell("kill -SEGV $$"))
	require.Equal(t, sigSegv, f.exited.GetSignal())
	require.False(t, f.exited.GetCancelled(), "nobody asked for it")

	for name, send := range map[string]func(f *follower, id string) error{
		"in the stream": func(f *follower, _ string) error {
			return f.stream.Send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Signal{Signal: &guestv1.SendSignal{Signal: sigUsr1}}})
		},
		"by call": func(_ *follower, id string) error {
			return g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: id, Signal: sigUsr1})
		},
		"to all": func(_ *follower, id string) error {
			return g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: id, Signal: sigUsr1, All: true})
		},
	} {
		start := shell("echo ready; exec sleep 1000")
		f := g.open(ctx, t, startRequest(start))
		f.line(t)
		require.NoError(t, send(f, start.GetExecId()), name)
		require.NoError(t, f.finish(), name)
		require.EqualValues(t, sigUsr1, f.exited.GetSignal(), name)
		require.True(t, f.exited.GetCancelled(), name)
		refused(t, g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Signal: sigTerm}),
			connect.CodeFailedPrecondition, start.GetExecId())
	}
	// One that handles it goes on.
	start := shell("trap 'echo caught' USR1; echo ready; until [ $n ]; do read n; done; exit $n")
	start.StdinMode = guestv1.StdinMode_STDIN_MODE_PIPE
	f = g.open(ctx, t, startRequest(start))
	f.line(t)
	require.NoError(t, g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Signal: sigUsr1}))
	require.NoError(t, f.stream.Send(stdinRequest([]byte("5\n"))))
	require.NoError(t, f.finish())
	require.EqualValues(t, 5, f.exited.GetExitCode())
	require.Equal(t, "ready\ncaught\n", f.stdout.String())

	for field, req := range map[string]*guestv1.ProcessSignalRequest{
		"signal":  {ExecId: "x", Signal: 65},
		"must be": {ExecId: "x", Signal: sigTerm, Terminate: true},
		"exec_id": {Signal: sigTerm},
	} {
		refused(t, g.signal(ctx, req), connect.CodeInvalidArgument, field)
	}
	refused(t, g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: "never-was", Signal: sigTerm}), connect.CodeNotFound, "never-was")
}

// terminate ends one that does not want to, and one that says good-bye.
func terminate(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("trap '' TERM; (sleep 1000; :) & echo ready; while :; do sleep 0.05; done")
	start.KillGrace = durationpb.New(50 * time.Millisecond)
	f := g.open(ctx, t, startRequest(start))
	f.line(t)
	end := &guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Terminate: true}
	require.NoError(t, g.signal(ctx, end))
	require.NoError(t, f.finish())
	require.Equal(t, sigKill, f.exited.GetSignal())
	require.True(t, f.exited.GetCancelled())
	require.Zero(t, g.living(ctx, t, start))
	refused(t, g.signal(ctx, end), connect.CodeFailedPrecondition, start.GetExecId())

	start = shell("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
	start.KillGrace = durationpb.New(limit / 2)
	f = g.open(ctx, t, startRequest(start))
	f.line(t)
	require.NoError(t, g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Terminate: true}))
	require.NoError(t, f.finish())
	require.EqualValues(t, 3, f.exited.GetExitCode())
	require.True(t, f.exited.GetCancelled())
	require.Equal(t, "ready\nbye\n", f.stdout.String())
}

func detachEnds(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("echo ready; sleep 1000")
	f, cut := g.openAlone(ctx, t, startRequest(start))
	f.line(t)
	second, cutSecond := g.openAlone(ctx, t, attachRequest(start.GetExecId(), 0))
	second.line(t)
	cut()
	eventually(ctx, t, func() bool { return g.info(ctx, t, start.GetExecId()).GetFollowers() == 1 })
	require.Nil(t, g.info(ctx, t, start.GetExecId()).GetExited(), "another follows it still")
	cutSecond()
	exited := g.ended(ctx, t, start.GetExecId())
	require.True(t, exited.GetCancelled())
	require.Equal(t, sigTerm, exited.GetSignal())
	require.Zero(t, g.living(ctx, t, start))
}

// comesBack cuts the only stream of an exec that ends when its client is gone, and
// attaches at once.
func comesBack(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("echo ready; read line; echo $line; read line")
	start.StdinMode = guestv1.StdinMode_STDIN_MODE_PIPE
	f, cut := g.openAlone(ctx, t, startRequest(start))
	f.line(t)
	for range 3 {
		cut()
		eventually(ctx, t, func() bool { return g.info(ctx, t, start.GetExecId()).GetFollowers() == 0 })
		f, cut = g.openAlone(ctx, t, attachRequest(start.GetExecId(), 0))
		f.line(t)
	}
	require.NoError(t, f.stream.Send(stdinRequest([]byte("still here\n\n"))))
	require.NoError(t, f.finish())
	require.Equal(t, &guestv1.Exited_ExitCode{}, f.exited.GetOutcome())
	require.Equal(t, "ready\nstill here\n", f.stdout.String())
}

func detachKeeps(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("echo ready; until [ -e go ]; do sleep 0.02; done; echo went")
	start.Cwd, start.OnDetach = g.dir(ctx, t), guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING
	f, cut := g.openAlone(ctx, t, startRequest(start))
	f.line(t)
	cut()
	eventually(ctx, t, func() bool { return g.info(ctx, t, start.GetExecId()).GetFollowers() == 0 })
	require.Positive(t, g.living(ctx, t, start))
	g.run(ctx, t, argv("touch", start.GetCwd()+"/go"))
	exited := g.ended(ctx, t, start.GetExecId())
	require.Equal(t, &guestv1.Exited_ExitCode{}, exited.GetOutcome())
	require.False(t, exited.GetCancelled())
	require.Equal(t, "ready\nwent\n", g.attach(ctx, t, start.GetExecId(), nil).stdout.String())
}
