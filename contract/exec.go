// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

type runStream = connect.BidiStreamForClient[guestv1.ProcessRunRequest, guestv1.ProcessRunResponse]

// markName is the variable by which the processes of an exec are found, those too
// that have escaped it.
const markName = "WAGGLE_CONTRACT"

// shell starts a script.
func shell(script string) *guestv1.Start {
	id := "contract-" + rand.Text()
	return &guestv1.Start{
		ExecId: id, Command: &guestv1.Start_Shell{Shell: script},
		Cwd: "/", Env: map[string]string{markName: id},
	}
}

// argv starts a program.
func argv(args ...string) *guestv1.Start {
	start := shell("")
	start.Command = &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: args}}
	return start
}

func startRequest(s *guestv1.Start) *guestv1.ProcessRunRequest {
	return &guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Start{Start: s}}
}

func attachRequest(id string, stdout uint64) *guestv1.ProcessRunRequest {
	return &guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Attach{
		Attach: &guestv1.Attach{ExecId: id, Cursor: &guestv1.Cursor{StdoutOffset: stdout}},
	}}
}

func stdinRequest(data []byte) *guestv1.ProcessRunRequest {
	return &guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Stdin{Stdin: data}}
}

// follower is one stream of an exec, and what came of it.
type follower struct {
	stream *runStream
	cancel context.CancelFunc

	started        *guestv1.Started
	stdout, stderr bytes.Buffer
	dropped        uint64 // bytes of stdout
	sequence       uint64 // the least that the next piece may have
	exited         *guestv1.Exited
}

// open begins a stream, which ends with the test.
func (g *Guest) open(ctx context.Context, t *testing.T, first *guestv1.ProcessRunRequest) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{stream: g.Run(ctx), cancel: cancel}
	t.Cleanup(f.release)
	if err := f.stream.Send(first); !errors.Is(err, io.EOF) { // else Receive says what was answered
		require.NoError(t, err)
	}
	return f
}

// release lets go of the stream. An HTTP/2 client tells the server of a context
// that was cancelled only when the stream is used again or closed.
func (f *follower) release() {
	f.cancel()
	_ = f.stream.CloseRequest()
	_ = f.stream.CloseResponse()
}

// openAlone begins a stream on a connection of its own. cut breaks it.
func (g *Guest) openAlone(ctx context.Context, t *testing.T, first *guestv1.ProcessRunRequest) (f *follower, cut func()) {
	t.Helper()
	own, cut := g.alone(t)
	return own.open(ctx, t, first), cut
}

// next takes one message, and holds that it may come where it does.
func (f *follower) next() error {
	msg, err := f.stream.Receive()
	if err != nil {
		return err
	}
	if f.exited != nil {
		return errors.New("a message follows exited")
	}
	switch m := msg.GetMessage().(type) {
	case *guestv1.ProcessRunResponse_Started:
		if f.started != nil {
			return errors.New("started came twice")
		}
		f.started = m.Started
		return nil
	case *guestv1.ProcessRunResponse_Stdout:
		f.dropped += m.Stdout.GetDroppedBytes()
		f.stdout.Write(m.Stdout.GetData())
		end := m.Stdout.GetOffset() + uint64(len(m.Stdout.GetData()))
		if have := uint64(f.stdout.Len()) + f.dropped; have != end {
			return fmt.Errorf("have %d bytes, %d of them dropped; the offset says %d", have, f.dropped, end)
		}
		err = f.order(m.Stdout)
	case *guestv1.ProcessRunResponse_Stderr:
		f.stderr.Write(m.Stderr.GetData())
		err = f.order(m.Stderr)
	case *guestv1.ProcessRunResponse_Exited:
		f.exited = m.Exited
	}
	if f.started == nil {
		return errors.New("started is not the first message")
	}
	return err
}

func (f *follower) order(out *guestv1.Output) error {
	if out.GetSequence() < f.sequence {
		return fmt.Errorf("sequence %d follows %d", out.GetSequence(), f.sequence-1)
	}
	f.sequence = out.GetSequence() + 1
	return nil
}

// finish reads to the end.
func (f *follower) finish() error {
	for {
		err := f.next()
		if errors.Is(err, io.EOF) && f.exited != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// line reads until stdout holds a line.
func (f *follower) line(t *testing.T) string {
	t.Helper()
	for {
		if line, _, ok := bytes.Cut(f.stdout.Bytes(), []byte("\n")); ok {
			return string(line)
		}
		require.NoError(t, f.next())
		require.Nil(t, f.exited, "it has ended")
	}
}

// try runs a command to its end. Like most clients it says first that there is no
// input.
func (g *Guest) try(ctx context.Context, t *testing.T, start *guestv1.Start) (*follower, error) {
	t.Helper()
	f := g.open(ctx, t, startRequest(start))
	if err := f.stream.CloseRequest(); err != nil {
		return nil, err
	}
	return f, f.finish()
}

func (g *Guest) run(ctx context.Context, t *testing.T, start *guestv1.Start) *follower {
	t.Helper()
	f, err := g.try(ctx, t, start)
	require.NoError(t, err)
	return f
}

// attach follows an exec from a place in its output to its end. have is what the
// reader has.
func (g *Guest) attach(ctx context.Context, t *testing.T, id string, have []byte) *follower {
	t.Helper()
	f := g.open(ctx, t, attachRequest(id, uint64(len(have))))
	f.stdout.Write(have)
	require.NoError(t, f.finish())
	return f
}

// info is what Get says.
func (g *Guest) info(ctx context.Context, t *testing.T, id string) *guestv1.ExecInfo {
	t.Helper()
	res, err := g.Get(ctx, connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: id}))
	require.NoError(t, err)
	return res.Msg.GetExec()
}

// ended waits until Get says that the exec has ended. It follows nothing, so it
// has no part in it.
func (g *Guest) ended(ctx context.Context, t *testing.T, id string) *guestv1.Exited {
	t.Helper()
	var exited *guestv1.Exited
	eventually(ctx, t, func() bool {
		exited = g.info(ctx, t, id).GetExited()
		return exited != nil
	})
	return exited
}

// eventually asks again and again, in this goroutine, until the scenario's time is
// over.
func eventually(ctx context.Context, t *testing.T, so func() bool) {
	t.Helper()
	for !so() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			require.FailNow(t, "it has not come to pass in time")
		}
	}
}

// signal calls Signal.
func (g *Guest) signal(ctx context.Context, req *guestv1.ProcessSignalRequest) error {
	_, err := g.Signal(ctx, connect.NewRequest(req))
	return err
}

// living counts the processes that bear the mark of an exec.
func (g *Guest) living(ctx context.Context, t *testing.T, start *guestv1.Start) int {
	t.Helper()
	count := argv("sh", "-c", `grep -slz "^$1=$2\$" /proc/[0-9]*/environ | wc -l`, "sh", markName, start.GetExecId())
	count.Env, count.User, count.AsRoot = nil, start.GetUser(), start.GetAsRoot()
	f := g.run(ctx, t, count)
	var n int
	_, err := fmt.Sscan(f.stdout.String(), &n)
	require.NoError(t, err, "%s", f.stderr.String())
	return n
}

// dir makes a directory of the workload user's, removed with the test.
func (g *Guest) dir(ctx context.Context, t *testing.T) string {
	t.Helper()
	f := g.run(ctx, t, argv("mktemp", "-d", "/tmp/waggle-contract-XXXXXX"))
	dir := strings.TrimSpace(f.stdout.String())
	require.NotEmpty(t, dir, f.stderr.String())
	t.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		_ = g.run(ctx, t, argv("rm", "-rf", dir))
	})
	return dir
}
