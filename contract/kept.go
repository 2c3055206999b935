// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// kept starts a command that ends with code 7 and leaves a script behind, and holds
// that its stream ends with it and says so.
func kept(ctx context.Context, t *testing.T, g *Guest, script string) (*guestv1.Start, *follower) {
	t.Helper()
	start := shell("(" + script + ") & sleep 0.5; echo main; exit 7")
	start.KeepChildren = true
	start.KillGrace = durationpb.New(limit / 2)
	f := g.run(ctx, t, start)
	require.EqualValues(t, 7, f.exited.GetExitCode())
	require.True(t, f.exited.GetKept())
	require.Positive(t, f.exited.GetLeftRunning())
	require.Positive(t, g.living(ctx, t, start), "the client has gone, they live")
	return start, f
}

// endOf waits for the end of the exec as Get has it.
func (g *Guest) endOf(ctx context.Context, t *testing.T, start *guestv1.Start) *guestv1.ExecInfo {
	t.Helper()
	g.ended(ctx, t, start.GetExecId())
	info := g.info(ctx, t, start.GetExecId())
	require.Zero(t, g.living(ctx, t, start), "exited means that none is left")
	require.Zero(t, info.GetProcesses())
	require.Nil(t, info.GetMainExited())
	require.False(t, info.GetExited().GetKept())
	require.EqualValues(t, 7, info.GetExited().GetExitCode(), "the main process's")
	return info
}

func keepChildren(ctx context.Context, t *testing.T, g *Guest) {
	start, f := kept(ctx, t, g, "trap 'echo bye; exit 0' TERM; echo child; while :; do sleep 0.05; done")
	require.Equal(t, "child\nmain\n", f.stdout.String())
	info := g.info(ctx, t, start.GetExecId())
	require.Nil(t, info.GetExited(), "it runs")
	require.True(t, proto.Equal(f.exited, info.GetMainExited()), "%v, then %v", f.exited, info.GetMainExited())
	require.Positive(t, info.GetProcesses())

	// The start, sent again, is answered as it was, and so is what takes it up.
	again := g.open(ctx, t, startRequest(start))
	require.NoError(t, again.finish())
	require.True(t, proto.Equal(f.exited, again.exited), "%v, then %v", f.exited, again.exited)
	up := attachRequest(start.GetExecId(), 0)
	up.GetAttach().MainOnly = true
	again = g.open(ctx, t, up)
	require.NoError(t, again.finish())
	require.True(t, proto.Equal(f.exited, again.exited), "%v, then %v", f.exited, again.exited)

	require.NoError(t, g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Terminate: true}))
	info = g.endOf(ctx, t, start)
	require.True(t, info.GetExited().GetCancelled())
	// What they wrote later is there for those who attach later.
	later := g.attach(ctx, t, start.GetExecId(), f.stdout.Bytes())
	require.Equal(t, "child\nmain\nbye\n", later.stdout.String())
	require.True(t, proto.Equal(later.exited, info.GetExited()), "it changed after it was final")
	require.EqualValues(t, later.stdout.Len(), later.exited.GetStdoutBytes())
}

// followKept attaches while only a child is left: the stream ends with that.
func followKept(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	start, f := kept(ctx, t, g, "until [ -e "+dir+"/go ]; do sleep 0.05; done; echo went; until [ -e "+dir+"/end ]; do sleep 0.05; done; echo bye")
	touch := func(name string) {
		require.Zero(t, g.run(ctx, t, argv("touch", dir+"/"+name)).exited.GetExitCode())
	}
	later := g.open(ctx, t, attachRequest(start.GetExecId(), uint64(f.stdout.Len())))
	later.stdout.Write(f.stdout.Bytes())
	require.NoError(t, later.next()) // it has started
	touch("go")
	require.NoError(t, later.next())
	require.Nil(t, later.exited, "a child still writes")
	require.Equal(t, "main\nwent\n", later.stdout.String())
	touch("end")
	require.NoError(t, later.finish())
	require.Equal(t, "main\nwent\nbye\n", later.stdout.String())
	require.False(t, later.exited.GetCancelled() || later.exited.GetTimedOut(), "it ended by itself")
	require.True(t, proto.Equal(later.exited, g.endOf(ctx, t, start).GetExited()))
}

// signalKept: without a main process a signal is for those that are left.
func signalKept(ctx context.Context, t *testing.T, g *Guest) {
	start, _ := kept(ctx, t, g, "trap 'echo heard; exit 0' USR1; while :; do sleep 0.05; done")
	require.NoError(t, g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Signal: sigUsr1}))
	g.endOf(ctx, t, start)
	require.Contains(t, g.attach(ctx, t, start.GetExecId(), nil).stdout.String(), "heard\n")
	err := g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Signal: sigUsr1})
	refused(t, err, connect.CodeFailedPrecondition, "has ended")
}

func timeoutKept(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("sleep 1000 & exit 7")
	start.KeepChildren = true
	start.Timeout = durationpb.New(2 * time.Second)
	f := g.run(ctx, t, start)
	require.True(t, f.exited.GetKept())
	require.False(t, f.exited.GetTimedOut())
	require.True(t, g.endOf(ctx, t, start).GetExited().GetTimedOut())
}
