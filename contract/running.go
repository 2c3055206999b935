// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// running is how a command is run.
func running() []Scenario {
	return []Scenario{
		{"exit codes and streams", None, exitCodes},
		{"environment and directory", None, environment},
		{"another user", Root, anotherUser},
		{"stdin", None, stdin},
		{"stdin of nobody", None, noStdin},
		{"terminal", None, terminal},
		{"spawn failures", None, spawnFailures},
		{"requests refused", None, startsRefused},
		{"usage", Cgroup, usage},
	}
}

func exitCodes(ctx context.Context, t *testing.T, g *Guest) {
	for _, code := range []int32{0, 1, 127, 255} {
		f := g.run(ctx, t, shell(fmt.Sprintf("echo out; echo err >&2; exit %d", code)))
		require.Equal(t, &guestv1.Exited_ExitCode{ExitCode: code}, f.exited.GetOutcome())
		require.Equal(t, []string{"out\n", "err\n"}, []string{f.stdout.String(), f.stderr.String()})
		require.EqualValues(t, 4, f.exited.GetStdoutBytes())
		require.EqualValues(t, 4, f.exited.GetStderrBytes())
		require.False(t, f.exited.GetTimedOut() || f.exited.GetCancelled() || f.exited.GetOomKilled())
		require.Zero(t, f.exited.GetLeftRunning())
		require.Positive(t, f.exited.GetDuration().AsDuration())
		require.Positive(t, f.exited.GetPeakMemoryBytes())
		require.Positive(t, f.started.GetPid())
		require.False(t, f.started.GetExisting())
	}
	// No shell reads an argv.
	require.Equal(t, "$HOME *\n", g.run(ctx, t, argv("echo", "$HOME *")).stdout.String())
	// The order across the streams, which next holds to be that of the sequence.
	f := g.run(ctx, t, shell("for i in 1 2 3 4 5; do echo $i; echo $i >&2; done"))
	require.Equal(t, f.stdout.String(), f.stderr.String())
}

func environment(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("pwd; env")
	start.Cwd, start.Env = "/usr", map[string]string{"WORDS": "a b;c", "EMPTY": "", "LANG": "C"}
	lines := strings.Split(g.run(ctx, t, start).stdout.String(), "\n")
	require.Equal(t, "/usr", lines[0])
	require.Subset(t, lines, []string{"WORDS=a b;c", "EMPTY=", "LANG=C"})
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL"} {
		require.Contains(t, strings.Join(lines, "\n"), "\n"+name+"=", name)
	}
}

func anotherUser(ctx context.Context, t *testing.T, g *Guest) {
	for _, user := range []string{"nobody", "4711"} {
		start := shell("id -u; id -G; echo $USER; grep NoNewPrivs /proc/self/status")
		start.User = user
		r := g.run(ctx, t, start)
		require.Nil(t, r.exited.GetSpawnFailure(), user)
		lines := strings.Fields(r.stdout.String())
		require.NotEmpty(t, lines, user)
		require.NotEqual(t, "0", lines[0])
		require.Equal(t, []string{user, "NoNewPrivs:", "1"}, lines[len(lines)-3:])
		require.NotContains(t, lines[1:len(lines)-3], "0", "none of guestd's groups")
	}
	start := shell("id -u; grep NoNewPrivs /proc/self/status")
	start.AsRoot = true
	require.Equal(t, []string{"0", "NoNewPrivs:", "1"}, strings.Fields(g.run(ctx, t, start).stdout.String()))
}

func stdin(ctx context.Context, t *testing.T, g *Guest) {
	start := argv("cat")
	start.StdinMode = guestv1.StdinMode_STDIN_MODE_PIPE
	f := g.open(ctx, t, startRequest(start))
	piece := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	const pieces = 16
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < pieces && err == nil; i++ {
			err = f.stream.Send(stdinRequest(piece))
		}
		if err == nil {
			err = f.stream.Send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_CloseStdin{CloseStdin: &guestv1.CloseStdin{}}})
		}
		sent <- err
	}()
	require.NoError(t, f.finish(), "the end of the input ends cat, though the stream is open")
	require.NoError(t, <-sent)
	require.Zero(t, f.exited.GetExitCode())
	require.True(t, bytes.Equal(bytes.Repeat(piece, pieces), f.stdout.Bytes()))
}

func noStdin(ctx context.Context, t *testing.T, g *Guest) {
	// The client's side stays open: the process reads the end of file all the same.
	f := g.open(ctx, t, startRequest(shell("cat; echo done")))
	require.NoError(t, f.finish())
	require.Equal(t, "done\n", f.stdout.String())

	// One that does not read its input is not held up by it.
	start := shell("exit 4")
	start.StdinMode = guestv1.StdinMode_STDIN_MODE_PIPE
	f = g.open(ctx, t, startRequest(start))
	_ = f.stream.Send(stdinRequest(make([]byte, 1<<20))) // it may have ended by now
	require.NoError(t, f.finish())
	require.EqualValues(t, 4, f.exited.GetExitCode())
}

func terminal(ctx context.Context, t *testing.T, g *Guest) {
	start := shell("stty size; read line; stty size; echo got $line $TERM; tty >&2")
	start.Pty = &guestv1.Pty{Size: &guestv1.TerminalSize{Rows: 30, Cols: 100}}
	f := g.open(ctx, t, startRequest(start))
	require.Equal(t, "30 100\r", f.line(t))
	require.NoError(t, f.stream.Send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Resize{
		Resize: &guestv1.TerminalSize{Rows: 40, Cols: 120},
	}}))
	require.NoError(t, f.stream.Send(stdinRequest([]byte("hello\n"))))
	require.NoError(t, f.finish())
	require.Contains(t, f.stdout.String(), "40 120\r\n")
	require.Contains(t, f.stdout.String(), "got hello xterm-256color\r\n")
	require.Contains(t, f.stdout.String(), "/dev/pts/")
	require.Zero(t, f.stderr.Len())
	require.Zero(t, f.exited.GetExitCode())

	// Ctrl-C is the terminal's own: it interrupts what is in front.
	start = shell("trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done")
	start.Pty = &guestv1.Pty{}
	f = g.open(ctx, t, startRequest(start))
	require.Equal(t, "ready\r", f.line(t))
	require.NoError(t, f.stream.Send(stdinRequest([]byte{3})))
	require.NoError(t, f.finish())
	require.EqualValues(t, 9, f.exited.GetExitCode(), f.stdout.String())
	require.False(t, f.exited.GetCancelled())
}

func spawnFailures(ctx context.Context, t *testing.T, g *Guest) {
	dir := g.dir(ctx, t)
	made := g.run(ctx, t, shell("cd "+dir+" && echo text >plain && printf '\\0\\1' >garbage && echo '#!/no/such' >orphan && chmod 755 garbage orphan"))
	require.Zero(t, made.exited.GetExitCode(), made.stderr.String())
	args := func(words ...string) func(*guestv1.Start) {
		return func(s *guestv1.Start) { s.GetArgv().Args = words }
	}
	for _, c := range []struct {
		kind   guestv1.SpawnFailureKind
		change func(*guestv1.Start)
		errno  string
	}{
		{guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND, args("no-such-program"), "ENOENT"},
		{guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND, args("/no/such/program"), "ENOENT"},
		{guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_CWD, func(s *guestv1.Start) { s.Cwd = "/no/such/dir" }, "ENOENT"},
		{guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_USER, func(s *guestv1.Start) { s.User = "no-such-user" }, ""},
		{guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_PERMISSION, args(dir + "/plain"), "EACCES"},
		{guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_FORMAT, args(dir + "/garbage"), "ENOEXEC"},
		{guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_FORMAT, args(dir + "/orphan"), "ENOENT"},
		{guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_ARGUMENTS_TOO_LARGE, args("true", strings.Repeat("a", 200<<10)), "E2BIG"},
	} {
		start := argv("true")
		c.change(start)
		f := g.run(ctx, t, start)
		failure := f.exited.GetSpawnFailure()
		require.Equal(t, c.kind, failure.GetKind(), "%v", f.exited)
		require.Equal(t, c.errno, failure.GetErrnoName(), failure.GetMessage())
		require.Equal(t, c.errno == "", failure.GetErrno() == 0)
		require.NotEmpty(t, failure.GetMessage())
		require.NotEmpty(t, failure.GetStage())
		require.Zero(t, f.started.GetPid())
		refused(t, g.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: start.GetExecId(), Signal: 15}),
			connect.CodeFailedPrecondition, start.GetExecId())
	}
}

// startsRefused: what is wrong with a request is named by its field.
func startsRefused(ctx context.Context, t *testing.T, g *Guest) {
	for field, change := range map[string]func(*guestv1.Start){
		"exec_id":            func(s *guestv1.Start) { s.ExecId = "../x" },
		"command":            func(s *guestv1.Start) { s.Command = nil },
		"argv.args":          func(s *guestv1.Start) { s.GetArgv().Args = []string{"a\x00b"} },
		"env":                func(s *guestv1.Start) { s.Env = map[string]string{"A=B": ""} },
		"cwd":                func(s *guestv1.Start) { s.Cwd = "relative" },
		"user":               func(s *guestv1.Start) { s.User, s.AsRoot = "nobody", true },
		"stdin_mode":         func(s *guestv1.Start) { s.StdinMode = 99 },
		"on_detach":          func(s *guestv1.Start) { s.OnDetach = 99 },
		"pty.size":           func(s *guestv1.Start) { s.Pty = &guestv1.Pty{Size: &guestv1.TerminalSize{Rows: 5000, Cols: 1}} },
		"timeout":            func(s *guestv1.Start) { s.Timeout = durationpb.New(-1) },
		"kill_grace":         func(s *guestv1.Start) { s.KillGrace = durationpb.New(limit) },
		"output_limit_bytes": func(s *guestv1.Start) { s.OutputLimitBytes = 2 << 30 },
	} {
		start := argv("true")
		change(start)
		_, err := g.try(ctx, t, start)
		refused(t, err, connect.CodeInvalidArgument, field)
	}
	_, err := g.open(ctx, t, stdinRequest([]byte("x"))).stream.Receive()
	refused(t, err, connect.CodeInvalidArgument, "message")
	for _, message := range []*guestv1.ProcessRunRequest{
		stdinRequest([]byte("x")), // it has none
		{Message: &guestv1.ProcessRunRequest_Resize{Resize: &guestv1.TerminalSize{Rows: 1, Cols: 1}}},
	} {
		f := g.open(ctx, t, startRequest(shell("sleep 1000")))
		require.NoError(t, f.stream.Send(message))
		require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(f.finish()))
	}
}

// usage is of all processes of an exec, not of the main one alone.
func usage(ctx context.Context, t *testing.T, g *Guest) {
	const size = 48 << 20
	f := g.run(ctx, t, shell(fmt.Sprintf("sh -c 'head -c %d /dev/zero | tail -c %d >/dev/null'; :", size, size)))
	require.Zero(t, f.exited.GetExitCode())
	require.Greater(t, f.exited.GetPeakMemoryBytes(), uint64(size))
	require.Positive(t, f.exited.GetCpuTime().AsDuration())
	require.Contains(t, strings.Split(g.run(ctx, t, argv("cat", "/proc/self/cgroup")).stdout.String(), "\n"),
		"0::/", "it sees its own group as the root of all")
}
