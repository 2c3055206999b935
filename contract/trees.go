// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
)

// trees is what becomes of the processes that a command has started.
func trees() []Scenario {
	return []Scenario{
		{"timeout of a tree", None, func(ctx context.Context, t *testing.T, g *Guest) { timeout(ctx, t, g, "") }},
		// Without control groups nothing finds those that have left the session.
		{"timeout of daemons", Cgroup, func(ctx context.Context, t *testing.T, g *Guest) { timeout(ctx, t, g, "setsid") }},
		{"timeout of a stopped process", None, stopped},
		{"left running", None, leftRunning},
		{"left running as a daemon", Cgroup, leftDaemon},
		{"keep children", None, keepChildren},
		{"follow kept children", None, followKept},
		{"signal kept children", None, signalKept},
		{"timeout of kept children", None, timeoutKept},
	}
}

// timeout has children that were forked twice and hear no SIGTERM.
func timeout(ctx context.Context, t *testing.T, g *Guest, session string) {
	const children = 20
	start := shell(fmt.Sprintf(`trap '' TERM
		for i in $(seq %d); do %s sh -c "trap '' TERM; %s sleep 1000 & :"; done
		echo ready; wait; sleep 1000`, children, session, session))
	start.Timeout = durationpb.New(6 * time.Second)
	start.KillGrace = durationpb.New(100 * time.Millisecond)
	f := g.open(ctx, t, startRequest(start))
	f.line(t)
	eventually(ctx, t, func() bool { return g.living(ctx, t, start) > children })
	require.NoError(t, f.finish())
	require.True(t, f.exited.GetTimedOut())
	require.False(t, f.exited.GetCancelled())
	require.Equal(t, sigKill, f.exited.GetSignal())
	require.Equal(t, "ready\n", f.stdout.String())
	require.GreaterOrEqual(t, f.exited.GetDuration().AsDuration(), start.GetTimeout().AsDuration())
	require.Zero(t, g.living(ctx, t, start))
}

// stopped has one that is stopped. It hears the SIGTERM, and ends by it.
func stopped(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("kill -STOP $$; sleep 1000")
	start.Timeout = durationpb.New(500 * time.Millisecond)
	start.KillGrace = durationpb.New(limit / 2)
	f := g.run(ctx, t, start)
	require.True(t, f.exited.GetTimedOut())
	require.Equal(t, sigTerm, f.exited.GetSignal())
}

func leftRunning(ctx context.Context, t *testing.T, g *Guest) {
	// The child holds stdout, so the end of file never comes by itself.
	start := shell("sleep 1000 & echo main; exit 3")
	f := g.run(ctx, t, start)
	require.EqualValues(t, 3, f.exited.GetExitCode())
	require.EqualValues(t, 1, f.exited.GetLeftRunning())
	require.False(t, f.exited.GetTimedOut() || f.exited.GetCancelled())
	require.Equal(t, "main\n", f.stdout.String())
	require.Zero(t, g.living(ctx, t, start))

	// What a child still writes in its time is not lost.
	f = g.run(ctx, t, shell("(sleep 0.1; echo late) & echo main"))
	require.Equal(t, "main\nlate\n", f.stdout.String())
	require.Zero(t, f.exited.GetLeftRunning())
}

func leftDaemon(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("setsid sh -c 'setsid sleep 1000 >/dev/null 2>&1 & sleep 0.2'; echo main")
	f := g.run(ctx, t, start)
	require.EqualValues(t, 1, f.exited.GetLeftRunning())
	require.Zero(t, f.exited.GetExitCode())
	require.Zero(t, g.living(ctx, t, start))
}
