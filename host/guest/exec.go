// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// stdinChunk is the most that one stdin message carries, in bytes, once a
	// reader has filled a message of minStdin: what a message costs guestd counts
	// more than what a byte does.
	stdinChunk = 512 << 10
	minStdin   = 32 << 10
	// maxReattach is how often a lost stream is taken up again without a byte
	// of progress in between.
	maxReattach = 5
	// cancelLimit bounds the call that ends an exec whose caller has gone.
	cancelLimit = time.Second
	// reattachPause is the wait before the second such attempt; it doubles.
	reattachPause = 100 * time.Millisecond
)

// ErrInputLost ends an exec with input whose stream broke: how much of the input
// arrived is not known, so it cannot be continued without losing or repeating some.
var ErrInputLost = errors.New("the stream broke while the command had an input")

// Exec is one command to run or to follow: exactly one of Start and Attach is
// set, and Run changes neither. Writers are called from one goroutine, never
// concurrently, also when both are the same.
type Exec struct {
	// Start describes the command; exec_id and command are required.
	Start *guestv1.Start
	// Attach names a command that runs or is still kept, and the place in its
	// output to begin at.
	Attach *guestv1.Attach
	// Stdin is copied to the command, which needs STDIN_MODE_PIPE or a terminal;
	// its end of file closes the command's input. Any other error of it ends
	// Run with that error, and leaves the command's input open. It is read by a
	// goroutine that ends with Run unless it is blocked in Read: then with that
	// Read.
	Stdin io.Reader
	// Resize carries new sizes of the command's terminal. May be nil; Run does
	// not wait for it to be closed.
	Resize <-chan *guestv1.TerminalSize
	// Stdout and Stderr take the output. Nil discards. An error of theirs
	// ends Run, and the exec by its detach policy.
	Stdout, Stderr io.Writer
	// Started is called once, when the command runs. May be nil.
	Started func(*guestv1.Started)
}

// Run runs a command and follows it to its end. A stream that is lost is taken
// up again by the same exec_id at the byte where it broke, so the command is run
// once and its output is written once. When ctx ends, a command that Run started is
// ended at once, unless its detach policy lets it run on. A command that could not be started is no error: Exited then has a
// SpawnFailure.
func (c *Client) Run(ctx context.Context, e Exec) (*guestv1.Exited, error) {
	if (e.Start == nil) == (e.Attach == nil) {
		return nil, errors.New("run command: give either Start or Attach")
	}
	f := &follower{exec: e, cursor: &guestv1.Cursor{
		StdoutOffset: e.Attach.GetCursor().GetStdoutOffset(), StderrOffset: e.Attach.GetCursor().GetStderrOffset(),
	}}
	pause := reattachPause
	for lost := 0; ; lost++ {
		before := f.progress
		exited, err := f.follow(ctx, c)
		if err == nil {
			return exited, nil
		}
		if f.progress > before {
			lost, pause = 0, reattachPause
		}
		if ctx.Err() != nil {
			c.cancel(ctx, e.Start)
			return nil, fmt.Errorf("run command: %w", context.Cause(ctx))
		}
		if !broken(err) || lost >= maxReattach {
			return nil, fmt.Errorf("run command: %w", err)
		}
		if e.Stdin != nil {
			return nil, fmt.Errorf("run command: %w: %w", ErrInputLost, err)
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			c.cancel(ctx, e.Start)
			return nil, fmt.Errorf("run command: %w", context.Cause(ctx))
		}
	}
}

// cancel ends an exec without the time that guestd leaves a client to come back: it
// cannot tell one that has been cancelled from one whose stream broke.
func (c *Client) cancel(ctx context.Context, start *guestv1.Start) {
	if start == nil || start.GetOnDetach() != guestv1.DetachPolicy_DETACH_POLICY_UNSPECIFIED {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), cancelLimit)
	defer done()
	// One that has ended is unknown, and one that cannot be reached ends by its policy.
	_ = c.Terminate(ctx, start.GetExecId())
}

// broken tells a lost stream from an answer of guestd.
func broken(err error) bool {
	var local *localError
	if errors.As(err, &local) {
		return false
	}
	var ce *connect.Error
	if errors.As(err, &ce) && connect.IsWireError(err) {
		return false
	}
	return !errors.Is(err, errBadStream) && !errors.Is(err, errClosed)
}

// errBadStream is a guest that breaks the order of messages; asking again would
// not mend it.
var errBadStream = errors.New("guest broke the exec stream")

// localError is a failure of the caller's reader or writer.
type localError struct{ err error }

func (l *localError) Error() string { return l.err.Error() }
func (l *localError) Unwrap() error { return l.err }

// follower is an exec across the streams that follow it.
type follower struct {
	exec     Exec
	cursor   *guestv1.Cursor
	started  bool
	progress uint64 // bytes written, plus one for the start
}

// follow opens one stream and reads it to its end.
func (f *follower) follow(ctx context.Context, c *Client) (*guestv1.Exited, error) {
	streamCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream := c.process.Run(streamCtx)
	defer func() { _ = stream.CloseResponse() }()
	in := &input{stream: stream}
	// A failed Send hides the server's answer, which Receive has.
	if in.send(f.first()) != nil || f.exec.Stdin == nil && f.exec.Resize == nil {
		_ = stream.CloseRequest()
	} else {
		in.start(streamCtx, f.exec, cancel)
	}
	for {
		msg, err := stream.Receive()
		if err != nil {
			var local *localError
			if cause := context.Cause(streamCtx); errors.As(cause, &local) {
				return nil, cause
			}
			if errors.Is(err, io.EOF) {
				return nil, io.ErrUnexpectedEOF // no exited: the stream was cut
			}
			return nil, err
		}
		exited, err := f.take(msg)
		if exited != nil || err != nil {
			return exited, err
		}
	}
}

// first is the request that opens a stream: the start until it is known to have
// arrived. Sending it twice is safe, because a start is get-or-create.
func (f *follower) first() *guestv1.ProcessRunRequest {
	id := f.exec.Start.GetExecId()
	if f.exec.Attach != nil {
		id = f.exec.Attach.GetExecId()
	}
	if f.started || f.exec.Attach != nil {
		return &guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Attach{
			Attach: &guestv1.Attach{
				ExecId: id, Cursor: f.cursor,
				// What takes up the stream of a start ends where that would have.
				MainOnly: f.exec.Start != nil || f.exec.Attach.GetMainOnly(),
			},
		}}
	}
	return &guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Start{Start: f.exec.Start}}
}

func (f *follower) take(msg *guestv1.ProcessRunResponse) (*guestv1.Exited, error) {
	switch m := msg.GetMessage().(type) {
	case *guestv1.ProcessRunResponse_Started:
		if !f.started {
			f.started = true
			f.progress++
			if f.exec.Started != nil {
				f.exec.Started(m.Started)
			}
		}
		return nil, nil
	case *guestv1.ProcessRunResponse_Stdout:
		return nil, f.write(f.exec.Stdout, &f.cursor.StdoutOffset, m.Stdout)
	case *guestv1.ProcessRunResponse_Stderr:
		return nil, f.write(f.exec.Stderr, &f.cursor.StderrOffset, m.Stderr)
	case *guestv1.ProcessRunResponse_Exited:
		if m.Exited == nil {
			return nil, errBadStream
		}
		return m.Exited, nil
	}
	return nil, nil // a message of a newer minor version
}

// write hands on what the reader does not have yet and moves its cursor.
func (f *follower) write(w io.Writer, at *uint64, out *guestv1.Output) error {
	data, offset := out.GetData(), out.GetOffset()
	end := offset + uint64(len(data))
	if end < offset {
		return fmt.Errorf("%w: offset %d is out of range", errBadStream, offset)
	}
	if end <= *at {
		return nil
	}
	if offset < *at {
		data = data[*at-offset:]
	}
	*at = end
	f.progress += uint64(len(data))
	if w == nil {
		return nil
	}
	if _, err := w.Write(data); err != nil {
		return &localError{fmt.Errorf("write output: %w", err)}
	}
	return nil
}
