// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"slices"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// names is what an exec_id is good for: a command runs once under it, and is
// found again by it.
func names() []Scenario {
	return []Scenario{
		{"one id at once", None, oneID},
		{"a start sent again", None, sentAgain},
		{"attach", None, attaching},
		{"get and list", None, listing},
	}
}

// oneID starts one command many times at once; it runs once.
func oneID(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("echo run >>runs; cat runs; sleep 0.2")
	start.Cwd, start.OnDetach = g.dir(ctx, t), guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING
	followers := make([]*follower, 20)
	for i := range followers {
		followers[i] = g.open(ctx, t, startRequest(start))
	}
	failures := make([]error, len(followers))
	var wg sync.WaitGroup
	for i, f := range followers {
		wg.Go(func() { failures[i] = f.finish() })
	}
	wg.Wait()
	first := 0
	for i, f := range followers {
		require.NoError(t, failures[i])
		require.Equal(t, "run\n", f.stdout.String())
		require.Equal(t, followers[0].started.GetPid(), f.started.GetPid())
		if !f.started.GetExisting() {
			first++
		}
	}
	require.Equal(t, 1, first, "one of them has started it")
}

// sentAgain cuts a stream and sends its start again, with a cursor.
func sentAgain(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	start := shell("echo run >>runs; echo one; until [ -e go ]; do sleep 0.02; done; echo two; exit 7")
	start.Cwd, start.OnDetach = dir, guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING
	f, cut := g.openAlone(ctx, t, startRequest(start))
	require.Equal(t, "one", f.line(t))
	cut()
	require.Zero(t, g.run(ctx, t, argv("touch", dir+"/go")).exited.GetExitCode())

	again := proto.CloneOf(start)
	again.Cursor = &guestv1.Cursor{StdoutOffset: uint64(f.stdout.Len())}
	g2 := g.open(ctx, t, startRequest(again))
	g2.stdout.Write(f.stdout.Bytes())
	require.NoError(t, g2.finish())
	require.True(t, g2.started.GetExisting())
	require.Equal(t, f.started.GetPid(), g2.started.GetPid())
	require.Equal(t, "one\ntwo\n", g2.stdout.String())
	require.EqualValues(t, 7, g2.exited.GetExitCode())
	require.Equal(t, "run\n", g.run(ctx, t, argv("cat", dir+"/runs")).stdout.String(), "it ran once")

	start.Command = &guestv1.Start_Shell{Shell: "echo another"}
	_, err := g.try(ctx, t, start)
	refused(t, err, connect.CodeAlreadyExists, start.GetExecId())
}

func attaching(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("printf 0123456789; printf abc >&2; exit 3")
	g.run(ctx, t, start)
	id := start.GetExecId()
	whole := g.attach(ctx, t, id, nil)
	require.Equal(t, []string{"0123456789", "abc"}, []string{whole.stdout.String(), whole.stderr.String()})
	require.EqualValues(t, 3, whole.exited.GetExitCode())
	require.True(t, whole.started.GetExisting())
	require.Equal(t, "0123456789", g.attach(ctx, t, id, []byte("0123456")).stdout.String())

	_, err := g.open(ctx, t, attachRequest(id, 11)).stream.Receive()
	refused(t, err, connect.CodeInvalidArgument, "cursor")
	_, err = g.open(ctx, t, attachRequest("never-was", 0)).stream.Receive()
	refused(t, err, connect.CodeNotFound, "never-was")
}

func listing(ctx context.Context, t *testing.T, g *Guest) {
	ended := shell("printf 12345; exit 6")
	g.run(ctx, t, ended)
	runs := shell("echo ready; sleep 1000")
	runs.Pty = &guestv1.Pty{}
	f := g.open(ctx, t, startRequest(runs))
	f.line(t)
	res, err := g.List(ctx, connect.NewRequest(&guestv1.ProcessListRequest{}))
	require.NoError(t, err)
	at := func(start *guestv1.Start) int {
		return slices.IndexFunc(res.Msg.GetExecs(), func(x *guestv1.ExecInfo) bool { return x.GetExecId() == start.GetExecId() })
	}
	require.GreaterOrEqual(t, at(ended), 0)
	require.Greater(t, at(runs), at(ended), "oldest first")

	was, is := res.Msg.GetExecs()[at(ended)], res.Msg.GetExecs()[at(runs)]
	require.Equal(t, "printf 12345; exit 6", was.GetCommand())
	require.EqualValues(t, 6, was.GetExited().GetExitCode())
	require.EqualValues(t, 5, was.GetStdoutBytes())
	require.False(t, was.GetPty())
	require.Nil(t, is.GetExited())
	require.True(t, is.GetPty())
	require.EqualValues(t, 1, is.GetFollowers())
	require.Equal(t, f.started.GetPid(), is.GetPid())
	require.True(t, proto.Equal(f.started.GetStartedAt(), is.GetStartedAt()))

	_, err = g.Get(ctx, connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: "never-was"}))
	refused(t, err, connect.CodeNotFound, "never-was")
}
