// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// limits is what a machine does to commands that want all of it, or more than is
// theirs. Their neighbours would feel it, so each is alone.
func limits() []Scenario {
	return []Scenario{
		{"all memory", Machine | Cgroup | Alone, allMemory},
		{"all processes", Machine | Cgroup | Alone, allProcesses},
		{"all of a file system", Machine | Cgroup | Alone, allSpace},
		{"what root may not", Machine | Python, forbidden},
		{"the clock is set", Machine | Alone, clockSet},
	}
}

func allMemory(ctx context.Context, t *testing.T, g *Guest) {
	total := g.system(ctx, t).GetMemoryTotalBytes()
	f := g.run(ctx, t, shell(fmt.Sprintf("echo before; head -c %d /dev/zero | tail -c %d >/dev/null; echo after $?", 4*total, 4*total)))
	require.True(t, f.exited.GetOomKilled())
	require.False(t, f.exited.GetTimedOut() || f.exited.GetCancelled())
	require.True(t, strings.HasPrefix(f.stdout.String(), "before\n"), "what it wrote is kept")
	require.Less(t, f.exited.GetPeakMemoryBytes(), total)
	f = g.run(ctx, t, shell("echo fine"))
	require.Equal(t, "fine\n", f.stdout.String())
	require.False(t, f.exited.GetOomKilled(), "that was the other one")
}

func allProcesses(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("while sleep 1000 & do :; done")
	start.Timeout, start.KillGrace = durationpb.New(limit/2), durationpb.New(time.Second)
	f := g.run(ctx, t, start)
	require.True(t, f.exited.GetPidsExhausted())
	require.Zero(t, g.living(ctx, t, start))
	require.False(t, g.run(ctx, t, shell("true")).exited.GetPidsExhausted())
}

func allSpace(ctx context.Context, t *testing.T, g *Guest) {
	f := g.run(ctx, t, shell("cat /dev/zero >/tmp/waggle-contract-full; echo $?"))
	require.Equal(t, "1\n", f.stdout.String())
	require.Contains(t, f.stderr.String(), "No space left on device")
	require.Equal(t, []string{"/tmp"}, f.exited.GetFullFilesystems())
	_, err := g.write(ctx, &guestv1.WriteOpen{Path: "/tmp/waggle-contract-other"}, make([]byte, 1<<20))
	refused(t, err, connect.CodeResourceExhausted, "/tmp")
	require.Zero(t, g.run(ctx, t, argv("rm", "/tmp/waggle-contract-full")).exited.GetExitCode())
	require.Empty(t, g.run(ctx, t, argv("ls", "/tmp/waggle-contract-other")).exited.GetFullFilesystems())
}

// forbidden is tried as root. docs/security.md has the whole list, and a test that
// tries all of it.
func forbidden(ctx context.Context, t *testing.T, g *Guest) {
	for _, code := range []string{
		"import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
		"import ctypes; l = ctypes.CDLL(None, use_errno=True); r = l.mount(b'x', b'/mnt', b'tmpfs', 0, 0); assert r == 0, ctypes.get_errno()",
		"import ctypes; l = ctypes.CDLL(None, use_errno=True); r = l.unshare(0x10000000); assert r == 0, ctypes.get_errno()",
		"import time; time.clock_settime(time.CLOCK_REALTIME, 0)",
		"import socket; socket.sethostname('evil')",
		"open('/proc/sys/kernel/core_pattern', 'w').write('x')",
		"import os; os.kill(1, 9); open('/proc/1/mem', 'rb')",
	} {
		start := argv("python3", "-c", code)
		start.AsRoot = true
		f := g.run(ctx, t, start)
		require.EqualValues(t, 1, f.exited.GetExitCode(), "%s: %s", code, f.stderr.String())
		require.Contains(t, f.stderr.String(), "Error", code)
	}
}

// clockSet moves the clock while a command runs: what its timeout counts is time
// that passes.
func clockSet(ctx context.Context, t *testing.T, g *Guest) {
	set := func(at time.Time) {
		_, err := g.System.Configure(ctx, connect.NewRequest(&guestv1.SystemConfigureRequest{Clock: timestamppb.New(at)}))
		require.NoError(t, err)
	}
	defer func() { set(time.Now()) }()
	for _, by := range []time.Duration{1000 * time.Hour, -1000 * time.Hour} {
		start := shell("echo ready; sleep 1000")
		start.Timeout, start.KillGrace = durationpb.New(3*time.Second), durationpb.New(time.Second)
		f := g.open(ctx, t, startRequest(start))
		f.line(t)
		at := time.Now().Add(by)
		set(at)
		var seconds int64
		_, err := fmt.Sscan(g.run(ctx, t, argv("date", "+%s")).stdout.String(), &seconds)
		require.NoError(t, err)
		require.InDelta(t, at.Unix(), seconds, limit.Seconds())
		require.Nil(t, f.exited)
		require.NoError(t, f.finish())
		require.True(t, f.exited.GetTimedOut())
		require.GreaterOrEqual(t, f.exited.GetDuration().AsDuration(), start.GetTimeout().AsDuration())
		require.Less(t, f.exited.GetDuration().AsDuration(), limit)
	}
}
