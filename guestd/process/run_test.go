// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
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

	"github.com/stacklok/waggle/guestd/process"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func TestKillAll(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture) {
		start := mark(shell("trap '' TERM; sleep 300 & sleep 300 & echo ready; wait"))
		stream, err := f.open(t.Context(), startRequest(start))
		require.NoError(t, err)
		firstLine(t, stream, &result{})
		_, err = f.Signal(t.Context(), connect.NewRequest(&guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Signal: 9, All: true}))
		require.NoError(t, err)
		exited := f.awaitExit(t, start.GetExecId())
		require.EqualValues(t, unix.SIGKILL, exited.GetSignal())
		require.True(t, exited.GetCancelled())
		require.Zero(t, exited.GetLeftRunning())
		require.Empty(t, marked(t, markOf(start)))
	})
}

func TestTerminate(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f *fixture) {
		start := shell("trap '' TERM; echo ready; while :; do sleep 0.1; done")
		start.KillGrace = durationpb.New(50 * time.Millisecond)
		stream, err := f.open(t.Context(), startRequest(start))
		require.NoError(t, err)
		firstLine(t, stream, &result{})
		_, err = f.Signal(t.Context(), connect.NewRequest(&guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Terminate: true}))
		require.NoError(t, err)
		exited := f.awaitExit(t, start.GetExecId())
		require.EqualValues(t, unix.SIGKILL, exited.GetSignal())
		require.True(t, exited.GetCancelled())
	})
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	var defaults *process.Defaults
	f := newFixture(t, func(c *process.Config) { defaults = c.Defaults })
	defaults.SetEnv(map[string]string{"FROM_MACHINE": "1", "OVERRIDDEN": "machine"})
	defaults.SetCwd("/tmp")
	start := shell("pwd; env | sort")
	start.Env = map[string]string{"OVERRIDDEN": "exec", "EMPTY": ""}
	r := f.must(t, start)
	lines := strings.Split(r.stdout.String(), "\n")
	require.Equal(t, "/tmp", lines[0])
	for _, want := range []string{"FROM_MACHINE=1", "OVERRIDDEN=exec", "EMPTY=", "LANG=C.UTF-8"} {
		require.Contains(t, lines, want)
	}
	for _, key := range []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL"} {
		require.Contains(t, r.stdout.String(), key+"=")
	}
	require.NotContains(t, r.stdout.String(), "GOCACHE", "nothing of guestd's own environment")
	start = shell("pwd")
	start.Cwd = "/usr"
	require.Equal(t, "/usr\n", f.must(t, start).stdout.String())
}

// TestPrivilege needs root, as guestd has it.
func TestPrivilege(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("changing the user needs root; try: sudo go test ./guestd/process")
	}
	f := newFixture(t, func(c *process.Config) { c.Defaults = process.NewDefaults("nobody"); c.Defaults.SetCwd("/") })
	require.Equal(t, "nobody\n", f.must(t, argv("whoami")).stdout.String())
	start := argv("whoami")
	start.AsRoot = true
	require.Equal(t, "root\n", f.must(t, start).stdout.String())
	start = shell("echo $USER $HOME $(id -u)")
	start.User = "4711"
	require.Equal(t, "4711 / 4711\n", f.must(t, start).stdout.String())
}

// TestGroupNamespace: an exec sees its own group as the root of all groups.
func TestGroupNamespace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if f.tree == nil || os.Geteuid() != 0 {
		t.Skip("needs root and cgroup v2; rely on the tests in a VM")
	}
	start := argv("cat", "/proc/self/cgroup")
	start.AsRoot = true
	require.Contains(t, strings.Split(f.must(t, start).stdout.String(), "\n"), "0::/")
}

func TestGetAndList(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *process.Config) { c.KeepCount = 2 })
	var ids []string
	for i := range 4 {
		start := shell(fmt.Sprintf("echo %d", i))
		f.must(t, start)
		ids = append(ids, start.GetExecId())
	}
	// The last stream may still be counted as a follower, which keeps its exec.
	require.Eventually(t, func() bool {
		list, err := f.List(t.Context(), connect.NewRequest(&guestv1.ProcessListRequest{}))
		require.NoError(t, err)
		return len(list.Msg.GetExecs()) == 2
	}, 30*time.Second, time.Millisecond)
	list, err := f.List(t.Context(), connect.NewRequest(&guestv1.ProcessListRequest{}))
	require.NoError(t, err)
	require.Equal(t, ids[2], list.Msg.GetExecs()[0].GetExecId())
	require.Equal(t, ids[3], list.Msg.GetExecs()[1].GetExecId())
	require.Equal(t, "echo 3", list.Msg.GetExecs()[1].GetCommand())
	require.EqualValues(t, 2, list.Msg.GetExecs()[1].GetStdoutBytes())

	got, err := f.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: ids[3]}))
	require.NoError(t, err)
	require.NotNil(t, got.Msg.GetExec().GetExited())
	for _, id := range []string{ids[0], "never-was"} {
		_, err = f.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: id}))
		require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
		stream, err := f.open(t.Context(), attachRequest(id, nil))
		require.NoError(t, err)
		_, err = stream.Receive()
		require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
	}
}

func TestMaxExecs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *process.Config) { c.MaxExecs = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := f.open(ctx, startRequest(shell("echo ready; sleep 300")))
	require.NoError(t, err)
	firstLine(t, stream, &result{})
	_, err = f.do(argv("true"))
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
	cut(cancel, stream) // the exec ends with its last stream
	require.Eventually(t, func() bool { return f.service.Running() == 0 }, 30*time.Second, time.Millisecond)
	f.must(t, argv("true"))
}
