// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/vsock"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// keepCount is how many ended execs the machines of these tests keep.
const keepCount = 64

// agent is the guestd of one environment, reached through its socket.
type agent struct {
	*guest.Client
	dial guest.DialFunc
}

// TestProcess holds what the agent promises of commands where that is hard to
// keep. What the contract's scenarios cover is not said again.
func TestProcess(t *testing.T) {
	a := newAgent(t)
	t.Run("many", a.keepsNothing) // first, so that nothing else makes room on the disk
	t.Run("timeout", a.endsForks)
	t.Run("cuts", a.survivesCuts)
	t.Run("stalled", a.ignoresStalled)
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	t.Setenv("WAGGLE_KEEP_RESULTS_COUNT", fmt.Sprint(keepCount))
	in := Install(t)
	var env environment
	in.Serve(t).Connect(t).Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	addr, err := vsock.Unix(filepath.Join(in.Run, env.ID, "guestd.sock"))
	require.NoError(t, err)
	a := &agent{Client: guest.New(addr.Dial), dial: addr.Dial}
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

// sh runs a script and returns what it printed.
func (a *agent) sh(t testing.TB, id, script string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	exited, err := a.Run(t.Context(), guest.Exec{
		Start:  &guestv1.Start{ExecId: id, Command: &guestv1.Start_Shell{Shell: script}},
		Stdout: &out, Stderr: &errOut,
	})
	require.NoError(t, err)
	require.Equal(t, &guestv1.Exited_ExitCode{}, exited.GetOutcome(), errOut.String())
	return out.String()
}

// forkers leaves 50 processes that have left their parents and their sessions, and
// hear no SIGTERM.
const forkers = `# forked twice
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
r, w = os.pipe()
for i in range(50):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            os.write(w, b"x")
            while True:
                signal.pause()
        os._exit(0)
    os.wait()
n = 0
while n < 50:
    n += len(os.read(r, 50))
print(n, flush=True)
time.sleep(1000)
`

func (a *agent) endsForks(t *testing.T) {
	const count = "pgrep -cf '^python3 -c # fork[e]d twice' || :"
	var out syncBuffer
	ended := make(chan error, 1)
	var exited *guestv1.Exited
	go func() {
		var err error
		exited, err = a.Run(t.Context(), guest.Exec{Stdout: &out, Start: &guestv1.Start{
			ExecId:    "forkers",
			Command:   &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"python3", "-c", forkers}}},
			Timeout:   durationpb.New(6 * time.Second),
			KillGrace: durationpb.New(100 * time.Millisecond),
		}})
		ended <- err
	}()
	require.Eventually(t, func() bool { return out.String() == "50\n" }, 5*time.Second, 20*time.Millisecond, "they are not forked in time")
	require.Equal(t, "51\n", a.sh(t, "forkers-before", count))
	require.NoError(t, <-ended)
	require.True(t, exited.GetTimedOut())
	require.EqualValues(t, 9, exited.GetSignal())
	require.Less(t, exited.GetDuration().AsDuration(), 8*time.Second)
	require.Equal(t, "0\n", a.sh(t, "forkers-after", count))
}

// syncBuffer may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// survivesCuts numbers the lines of 10 MB, and cuts the connection again and again:
// in the middle of the start, before its answer, anywhere in the output.
func (a *agent) survivesCuts(t *testing.T) {
	const first, lines, lineSize = 100_000_000, 1_000_000, 10
	cuts := sized(20, 100)
	c := newCutter(t, a.dial, cuts, lineSize*lines)
	client := guest.New(c.Dial)
	defer func() { require.NoError(t, client.Close()) }()
	var out bytes.Buffer
	began := time.Now()
	exited, err := client.Run(t.Context(), guest.Exec{Stdout: &out, Start: &guestv1.Start{
		ExecId:  "numbered", // it would end with its client, were that not back so soon
		Command: &guestv1.Start_Shell{Shell: fmt.Sprintf("echo ran >>ran; seq %d %d; exit 5", first, first+lines-1)},
	}})
	require.NoError(t, err)
	t.Logf("%d cuts in %s", c.count(), time.Since(began).Round(time.Millisecond))
	require.Equal(t, cuts, c.count(), "it was over before it was cut often enough")
	require.EqualValues(t, 5, exited.GetExitCode())
	require.EqualValues(t, lineSize*lines, exited.GetStdoutBytes())
	require.Equal(t, lineSize*lines, out.Len())
	for i := range lines {
		line, err := out.ReadString('\n')
		require.NoError(t, err)
		if want := fmt.Sprintf("%d\n", first+i); line != want {
			require.Equal(t, want, line)
		}
	}
	require.Equal(t, "ran\n", a.sh(t, "numbered-after", "cat ran"))
}

// ignoresStalled has two followers that read nothing, one of them on the
// connection of the one that reads.
func (a *agent) ignoresStalled(t *testing.T) {
	release := a.stall(t, "stalled")
	defer release()
	var got counter
	exited, err := a.Run(t.Context(), guest.Exec{Stdout: &got, Attach: &guestv1.Attach{ExecId: "stalled"}})
	require.NoError(t, err)
	require.Zero(t, exited.GetStdoutDroppedBytes())
	require.EqualValues(t, stalledSize, exited.GetStdoutBytes())
	require.EqualValues(t, stalledSize, got.n)
}

// stalledSize is within what is kept of an exec, so that a reader gets all of it.
const stalledSize = 48 << 20

func muchOutput(id string) *guestv1.Start {
	return &guestv1.Start{
		ExecId:   id,
		Command:  &guestv1.Start_Shell{Shell: fmt.Sprintf("head -c %d /dev/zero", stalledSize)},
		OnDetach: guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING,
	}
}

// stall starts an exec and follows it twice without reading. The function that it
// returns lets go.
func (a *agent) stall(t *testing.T, id string) (release func()) {
	t.Helper()
	other := guest.New(a.dial)
	ctx, cancel := context.WithCancel(t.Context())
	var streams []*connect.BidiStreamForClient[guestv1.ProcessRunRequest, guestv1.ProcessRunResponse]
	for _, c := range []*guest.Client{a.Client, other} {
		stream := c.Process().Run(ctx)
		require.NoError(t, stream.Send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Start{Start: muchOutput(id)}}))
		first, err := stream.Receive()
		require.NoError(t, err)
		require.NotNil(t, first.GetStarted())
		streams = append(streams, stream)
	}
	return func() {
		cancel()
		for _, s := range streams {
			_ = s.CloseRequest()
			_ = s.CloseResponse()
		}
		require.NoError(t, other.Close())
	}
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// keepsNothing runs many execs one after the other. Once as many are kept as the
// settings say, nothing grows.
func (a *agent) keepsNothing(t *testing.T) {
	n := sized(300, 10_000)
	run := func(from, to int) {
		for i := from; i < to; i++ {
			want := fmt.Sprintf("out %d\n%s\n", i, strings.Repeat("x", 2000))
			require.Equal(t, want, a.sh(t, fmt.Sprintf("many-%d", i), fmt.Sprintf("echo out %d; printf '%%02000d\n' 0 | tr 0 x", i)))
		}
	}
	began := time.Now()
	const settled = 2 * keepCount
	run(0, settled)
	before := a.atRest(t)
	run(settled, n)
	after := a.atRest(t)
	took := time.Since(began)
	t.Logf("%d execs, %s each; guestd before %s, after %s", n, (took / time.Duration(n)).Round(100*time.Microsecond), held(before), held(after))

	require.LessOrEqual(t, after.GetAgentDescriptors(), before.GetAgentDescriptors()+4)
	require.LessOrEqual(t, after.GetAgentGoroutines(), before.GetAgentGoroutines()+4)
	require.LessOrEqual(t, after.GetTasks(), before.GetTasks()+8, "threads of guestd and the kernel")
	require.Less(t, after.GetAgentResidentBytes(), before.GetAgentResidentBytes()+3<<20)
	require.Less(t, before.GetDiskFreeBytes(), after.GetDiskFreeBytes()+8<<20, "a page for each stream that is kept, and no more")
	execs, err := a.Execs(t.Context())
	require.NoError(t, err)
	require.Equal(t, keepCount, len(execs), "as many as the setting says")
	require.Equal(t, fmt.Sprintf("many-%d", n-1), execs[len(execs)-1].GetExecId())
}

// atRest waits until no exec is left, and says what guestd holds then.
func (a *agent) atRest(t *testing.T) *guestv1.SystemInfoResponse {
	t.Helper()
	var info *guestv1.SystemInfoResponse
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		var err error
		info, err = a.Info(t.Context())
		require.NoError(t, err)
		if info.GetRunningExecs() == 0 && info.GetExecCgroups() == 0 && info.GetActiveCalls() == 0 {
			return info
		}
		require.True(t, time.Now().Before(deadline), "execs are left: %v", info)
	}
}

func held(info *guestv1.SystemInfoResponse) string {
	return fmt.Sprintf("%d KiB resident, %d descriptors, %d goroutines, %d tasks, %d KiB free on disk",
		info.GetAgentResidentBytes()>>10, info.GetAgentDescriptors(), info.GetAgentGoroutines(), info.GetTasks(), info.GetDiskFreeBytes()>>10)
}
