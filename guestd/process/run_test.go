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

	"github.com/stacklok/waggle/guestd/process"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, code := range []int32{0, 1, 3, 127, 255} {
		r := f.must(t, shell(fmt.Sprintf("echo out; echo err >&2; exit %d", code)))
		require.Equal(t, &guestv1.Exited_ExitCode{ExitCode: code}, r.exited.GetOutcome())
		require.Equal(t, "out\n", r.stdout.String())
		require.Equal(t, "err\n", r.stderr.String())
		require.EqualValues(t, 4, r.exited.GetStdoutBytes())
		require.EqualValues(t, 4, r.exited.GetStderrBytes())
		require.False(t, r.exited.GetTimedOut() || r.exited.GetCancelled() || r.exited.GetOomKilled())
		require.Positive(t, r.exited.GetDuration().AsDuration())
		require.Positive(t, r.exited.GetPeakMemoryBytes())
		require.Positive(t, r.started.GetPid())
		require.False(t, r.started.GetExisting())
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.must(t, shell("kill -SEGV $$"))
	require.EqualValues(t, unix.SIGSEGV, r.exited.GetSignal())
	require.False(t, r.exited.GetCancelled(), "nobody asked for it")

	for name, send := range map[string]func(stream *runClient, id string) error{
		"in the stream": func(stream *runClient, _ string) error {
			return stream.Send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Signal{Signal: &guestv1.SendSignal{Signal: int32(unix.SIGUSR1)}}})
		},
		"by call": func(_ *runClient, id string) error {
			_, err := f.Signal(t.Context(), connect.NewRequest(&guestv1.ProcessSignalRequest{ExecId: id, Signal: int32(unix.SIGUSR1)}))
			return err
		},
		"to all": func(_ *runClient, id string) error {
			_, err := f.Signal(t.Context(), connect.NewRequest(&guestv1.ProcessSignalRequest{ExecId: id, Signal: int32(unix.SIGUSR1), All: true}))
			return err
		},
	} {
		start := shell("echo ready; exec sleep 300")
		stream, err := f.open(t.Context(), startRequest(start))
		require.NoError(t, err)
		got := &result{}
		firstLine(t, stream, got)
		require.NoError(t, send(stream, start.GetExecId()), name)
		end, err := follow(stream, nil)
		require.ErrorContains(t, err, "not complete", name) // started was read before
		require.Nil(t, end)
		exited := f.awaitExit(t, start.GetExecId())
		require.EqualValues(t, unix.SIGUSR1, exited.GetSignal(), name)
		require.True(t, exited.GetCancelled(), name)
		require.NoError(t, stream.CloseRequest())
		_, err = f.Signal(t.Context(), connect.NewRequest(&guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Signal: 15}))
		require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err), name)
	}
}

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

func TestStdin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	start := argv("cat")
	start.StdinMode = guestv1.StdinMode_STDIN_MODE_PIPE
	stream, err := f.open(t.Context(), startRequest(start))
	require.NoError(t, err)
	want := bytes.Repeat([]byte("0123456789abcdef"), 256<<10/16)
	go func() {
		for range 16 {
			_ = stream.Send(stdinRequest(want)) // the length below tells
		}
		_ = stream.CloseRequest()
	}()
	r, err := follow(stream, nil)
	require.NoError(t, err)
	require.Zero(t, r.exited.GetExitCode())
	require.True(t, bytes.Equal(bytes.Repeat(want, 16), r.stdout.Bytes()))

	// Without a pipe the input is empty, and it does not wait for the client.
	start = shell("cat; echo done")
	stream, err = f.open(t.Context(), startRequest(start))
	require.NoError(t, err)
	r, err = follow(stream, nil)
	require.NoError(t, err)
	require.Equal(t, "done\n", r.stdout.String())

	// A process that does not read its input ends all the same.
	start = shell("exit 4")
	start.StdinMode = guestv1.StdinMode_STDIN_MODE_PIPE
	stream, err = f.open(t.Context(), startRequest(start))
	require.NoError(t, err)
	_ = stream.Send(stdinRequest(make([]byte, maxStdin))) // it may have ended
	r, err = follow(stream, nil)
	require.NoError(t, err)
	require.EqualValues(t, 4, r.exited.GetExitCode())
}

const maxStdin = 1 << 20

func TestPty(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	start := shell("stty size; read line; stty size; echo got $line $TERM; tty >&2")
	start.Pty = &guestv1.Pty{Size: &guestv1.TerminalSize{Rows: 30, Cols: 100}}
	stream, err := f.open(t.Context(), startRequest(start))
	require.NoError(t, err)
	got := &result{}
	require.Equal(t, "30 100\r", firstLine(t, stream, got))
	require.NoError(t, stream.Send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Resize{Resize: &guestv1.TerminalSize{Rows: 40, Cols: 120}}}))
	require.NoError(t, stream.Send(stdinRequest([]byte("hello\n"))))
	for got.exited == nil {
		msg, err := stream.Receive()
		require.NoError(t, err)
		require.NoError(t, got.take(msg))
	}
	require.Contains(t, got.stdout.String(), "40 120\r\n")
	require.Contains(t, got.stdout.String(), "got hello xterm-256color\r\n")
	require.Contains(t, got.stdout.String(), "/dev/pts/")
	require.Zero(t, got.stderr.Len())
	require.Zero(t, got.exited.GetExitCode())
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

func TestSpawnFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for want, change := range map[guestv1.SpawnFailureKind]func(*guestv1.Start){
		guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND: func(s *guestv1.Start) {},
		guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_CWD:   func(s *guestv1.Start) { s.Cwd = "/no/such/dir" },
		guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_USER:  func(s *guestv1.Start) { s.User = "no-such-user" },
		guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_PERMISSION: func(s *guestv1.Start) {
			s.GetArgv().Args = []string{"/etc/passwd"}
		},
		guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_ARGUMENTS_TOO_LARGE: func(s *guestv1.Start) {
			s.GetArgv().Args = []string{"true", strings.Repeat("a", 200<<10)}
		},
	} {
		start := argv("no-such-program")
		change(start)
		r := f.must(t, start)
		require.Equal(t, want, r.exited.GetSpawnFailure().GetKind(), r.exited.GetSpawnFailure().GetMessage())
		require.NotEmpty(t, r.exited.GetSpawnFailure().GetMessage())
		require.NotEmpty(t, r.exited.GetSpawnFailure().GetStage())
		require.Zero(t, r.started.GetPid())
		_, err := f.Signal(t.Context(), connect.NewRequest(&guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Signal: 15}))
		require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err))
	}
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
