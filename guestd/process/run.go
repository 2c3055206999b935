// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/guestd/bulk"
	"github.com/stacklok/waggle/guestd/process/spool"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

type runStream = connect.BidiStream[guestv1.ProcessRunRequest, guestv1.ProcessRunResponse]

// Run starts an exec or attaches to one, and follows it. This goroutine sends;
// another one receives until the client closes its side or this one returns,
// which makes Receive fail.
func (s *Service) Run(ctx context.Context, stream *runStream) error {
	first, err := stream.Receive()
	if errors.Is(err, io.EOF) {
		return invalid("message", "the first one must be start or attach")
	}
	if err != nil {
		return err
	}
	x, from, existing, err := s.open(first)
	if err != nil {
		return err
	}
	defer x.unfollow()
	select {
	case <-x.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	totals := x.spool.Totals()
	cursor := from.cursor
	if cursor.GetStdoutOffset() > totals.Written[spool.Stdout] || cursor.GetStderrOffset() > totals.Written[spool.Stderr] {
		return invalid("cursor", "is beyond the output, which has %d and %d bytes",
			totals.Written[spool.Stdout], totals.Written[spool.Stderr])
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s.streams.Go(func() {
		if err := x.receive(ctx, stream, first.GetStart() != nil); err != nil {
			fail(err)
		}
	})
	if err := stream.Send(&guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Started{Started: &guestv1.Started{
		ExecId:    x.id,
		Pid:       x.pid(),
		Existing:  existing,
		StartedAt: timestamppb.New(x.startedAt),
	}}}); err != nil {
		return err
	}
	return x.send(ctx, stream, from)
}

// span is what a stream follows of an exec's output.
type span struct {
	cursor   *guestv1.Cursor
	mainOnly bool // until the main process ends, not the last one
}

// open handles the first message. The exec that it returns is followed.
func (s *Service) open(first *guestv1.ProcessRunRequest) (x *execution, from span, existing bool, err error) {
	switch m := first.GetMessage().(type) {
	case *guestv1.ProcessRunRequest_Start:
		if err := checkStart(m.Start); err != nil {
			return nil, span{}, false, err
		}
		from.mainOnly = true
		x, existing, err = s.startOrFind(proto.CloneOf(m.Start))
		if existing {
			from.cursor = m.Start.GetCursor() // a new one begins at its beginning
		}
		return x, from, existing, err
	case *guestv1.ProcessRunRequest_Attach:
		x, err = s.findAndFollow(m.Attach.GetExecId())
		return x, span{m.Attach.GetCursor(), m.Attach.GetMainOnly()}, true, err
	}
	return nil, span{}, false, invalid("message", "the first one must be start or attach")
}

// send copies the output to the stream until the exec, or its main process, has
// ended.
func (x *execution) send(ctx context.Context, stream *runStream, from span) error {
	r := x.spool.Reader(from.cursor.GetStdoutOffset(), from.cursor.GetStderrOffset())
	defer r.Close()
	if from.mainOnly {
		r.StopAtMark()
	}
	// One message for all pieces: Send keeps nothing of it.
	out := &guestv1.Output{}
	stdout := &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Stdout{Stdout: out}}
	stderr := &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Stderr{Stderr: out}}
	for {
		p, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return stream.Send(&guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Exited{
				Exited: x.outcome(r.Totals()),
			}})
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return connect.NewError(connect.CodeInternal, err)
		}
		out.Offset, out.Data, out.Sequence, out.DroppedBytes = p.Offset, p.Data, p.Seq, p.Dropped
		msg := stdout
		if p.Stream == spool.Stderr {
			msg = stderr
		}
		if err := stream.Send(msg); err != nil {
			return err
		}
	}
}

// receive handles what the client sends. An error ends the stream, nil does not.
func (x *execution) receive(ctx context.Context, stream *runStream, started bool) error {
	feeds := started // whether closing this stream's side closes the stdin
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			// One who only looks on closes nothing.
			if feeds && x.child != nil {
				return ignoreEnded(x.stdio.closeStdin(ctx))
			}
			return nil
		}
		if err != nil {
			return err // the stream is cut; stdin stays open for the next one
		}
		if msg.GetStdin() != nil || msg.GetCloseStdin() != nil {
			feeds = true
		}
		if err := x.handle(ctx, msg); err != nil {
			return err
		}
	}
}

// handle acts on one message after the first.
func (x *execution) handle(ctx context.Context, msg *guestv1.ProcessRunRequest) error {
	switch m := msg.GetMessage().(type) {
	case *guestv1.ProcessRunRequest_Stdin:
		if len(m.Stdin) > maxStdin {
			return invalid("stdin", "has %d bytes, at most %d are allowed", len(m.Stdin), maxStdin)
		}
	case *guestv1.ProcessRunRequest_Resize:
		if err := checkSize("resize", m.Resize); err != nil {
			return err
		}
	case *guestv1.ProcessRunRequest_Signal:
		if err := checkSignal(m.Signal.GetSignal()); err != nil {
			return err
		}
	case *guestv1.ProcessRunRequest_CloseStdin:
	default:
		return invalid("message", "%s", fmt.Sprintf("must be stdin, close_stdin, resize or signal after the first, is %T", m))
	}
	if x.child == nil || x.stdio == nil {
		return nil // it was never started: exited says so
	}
	switch m := msg.GetMessage().(type) {
	case *guestv1.ProcessRunRequest_Stdin:
		err := x.stdio.write(ctx, m.Stdin)
		bulk.Release(m.Stdin)
		return err
	case *guestv1.ProcessRunRequest_CloseStdin:
		return ignoreEnded(x.stdio.closeStdin(ctx))
	case *guestv1.ProcessRunRequest_Resize:
		return x.stdio.resize(m.Resize)
	case *guestv1.ProcessRunRequest_Signal:
		// It may end at the same moment; exited tells the client.
		return ignoreEnded(x.signal(unix.Signal(m.Signal.GetSignal()), m.Signal.GetAll()))
	}
	return nil
}

// ignoreEnded drops the error of what came too late.
func ignoreEnded(err error) error {
	if connect.CodeOf(err) == connect.CodeFailedPrecondition {
		return nil
	}
	return err
}
