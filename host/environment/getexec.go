// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// MaxWait is the longest that one GetExecution waits.
	MaxWait = 5 * time.Minute
	// MaxPiece is the most bytes of each stream that one GetExecution returns, and
	// DefaultPiece what it returns when nobody says.
	MaxPiece     = 256 << 10
	DefaultPiece = 64 << 10
)

// ExecutionQuery asks what became of an execution.
type ExecutionQuery struct {
	// Wait is how long to wait for its end or for output beyond the offsets.
	Wait time.Duration
	// StdoutOffset and StderrOffset are how many bytes the caller has already.
	StdoutOffset, StderrOffset int64
	// Limit is the most bytes of each stream. Zero: DefaultPiece.
	Limit int64
}

// Piece is a part of what an execution wrote to one stream.
type Piece struct {
	Data []byte
	// Offset is where Data begins, Next where the rest does. Bytes before Offset that
	// were asked for are lost: the guest keeps the beginning and the end of much
	// output.
	Offset, Next int64
	// Bytes were written so far.
	Bytes int64
}

// ExecutionState is an execution at one moment. Of ExecResult all but Language and the
// output is set.
type ExecutionState struct {
	ExecResult
	Stdout, Stderr Piece
}

// GetExecution says what became of an execution, also of one that an earlier server
// has started.
func (m *Manager) GetExecution(ctx context.Context, id, execution string, q ExecutionQuery) (s ExecutionState, err error) {
	if err := errors.Join(checkID(id), checkExecutionID(execution), q.check()); err != nil {
		return ExecutionState{}, err
	}
	if q.Limit == 0 {
		q.Limit = DefaultPiece
	}
	err = m.guestCall(ctx, id, q.Wait+kitTimeout, func(ctx context.Context, g *guest.Client) error {
		s, err = q.answer(ctx, g, execution)
		return err
	})
	return s, err
}

func (q *ExecutionQuery) check() error {
	var errs []error
	if q.Wait < 0 || q.Wait > MaxWait {
		errs = append(errs, invalid("wait_seconds", "must be 0 to %g", MaxWait.Seconds()))
	}
	if q.StdoutOffset < 0 {
		errs = append(errs, invalid("stdout_offset", "is negative: it counts bytes from the beginning"))
	}
	if q.StderrOffset < 0 {
		errs = append(errs, invalid("stderr_offset", "is negative: it counts bytes from the beginning"))
	}
	if q.Limit < 0 || q.Limit > MaxPiece {
		errs = append(errs, invalid("limit", "must be 1 to %d, or left out for %d", MaxPiece, DefaultPiece))
	}
	return errors.Join(errs...)
}

func (q *ExecutionQuery) answer(ctx context.Context, g *guest.Client, execution string) (ExecutionState, error) {
	x, err := lookUp(ctx, g, execution)
	if err != nil {
		return ExecutionState{}, err
	}
	for field, n := range map[string][2]int64{
		"stdout_offset": {q.StdoutOffset, count(x.GetStdoutBytes())}, "stderr_offset": {q.StderrOffset, count(x.GetStderrBytes())},
	} {
		if n[0] > n[1] {
			return ExecutionState{}, invalid(field, "is %d, and only %d bytes were written: give the next offset of the last answer", n[0], n[1])
		}
	}
	news := count(x.GetStdoutBytes()) > q.StdoutOffset || count(x.GetStderrBytes()) > q.StderrOffset
	if x.GetExited() == nil && !news && q.Wait > 0 {
		if err := await(ctx, g, x, q.Wait); err != nil {
			return ExecutionState{}, err
		}
		if x, err = lookUp(ctx, g, execution); err != nil {
			return ExecutionState{}, err
		}
	}
	s := ExecutionState{ExecResult: ExecResult{ExecutionID: execution, Running: true}}
	if exited := x.GetExited(); exited != nil {
		if failure := exited.GetSpawnFailure(); failure != nil {
			return ExecutionState{}, fmt.Errorf("%w: %s", ErrSpawn, plain(failure.GetMessage(), maxGuestText))
		}
		s.ExecResult = execResult(execution, exited)
	} else {
		s.Duration = max(0, time.Since(x.GetStartedAt().AsTime()))
	}
	if s.Stdout, err = piece(ctx, g, x, false, q.StdoutOffset, q.Limit); err != nil {
		return ExecutionState{}, err
	}
	s.Stderr, err = piece(ctx, g, x, true, q.StderrOffset, q.Limit)
	return s, err
}

// await waits until an exec has written more than it had, or has ended, or the time
// is up.
func await(ctx context.Context, g *guest.Client, x *guestv1.ExecInfo, wait time.Duration) error {
	// No deadline: the guest would be told of it, and might answer with an error first.
	waitCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(wait, cancel).Stop()
	err := g.Await(waitCtx, x.GetExecId(), &guestv1.Cursor{StdoutOffset: x.GetStdoutBytes(), StderrOffset: x.GetStderrBytes()})
	if err != nil && (waitCtx.Err() == nil || ctx.Err() != nil) {
		return execError(ctx, err)
	}
	return nil
}

// lookUp finds an execution in the guest, by the last program that was tried for it.
func lookUp(ctx context.Context, g *guest.Client, execution string) (*guestv1.ExecInfo, error) {
	var last *guestv1.ExecInfo
	for i := range maxPrograms {
		x, err := g.Exec(ctx, guestID(execution, i))
		switch {
		case connect.CodeOf(err) == connect.CodeNotFound && last == nil:
			return nil, fmt.Errorf("%w: %s: it never ran here, or it ended too long ago", ErrNoExecution, execution)
		case connect.CodeOf(err) == connect.CodeNotFound:
			return last, nil
		case err != nil:
			return nil, execError(ctx, err)
		}
		last = x
		failure := x.GetExited().GetSpawnFailure()
		if failure.GetKind() != guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND {
			return x, nil
		}
	}
	return last, nil
}

// piece reads a part of what was written when x was looked up.
func piece(ctx context.Context, g *guest.Client, x *guestv1.ExecInfo, stderr bool, offset, limit int64) (Piece, error) {
	written, other := count(x.GetStdoutBytes()), x.GetStderrBytes()
	if stderr {
		written, other = count(x.GetStderrBytes()), x.GetStdoutBytes()
	}
	at, data, err := g.Output(ctx, guest.OutputRange{
		ExecID: x.GetExecId(), Stderr: stderr, Offset: uint64(offset), End: uint64(min(written, offset+limit)), Other: other,
	})
	if err != nil {
		return Piece{}, execError(ctx, err)
	}
	p := Piece{Data: data, Offset: min(count(at), written), Bytes: written}
	// The next piece begins with the whole character, unless this is the last one or
	// there would be nothing in it.
	if end := p.Offset + int64(len(data)); end < written || x.GetExited() == nil {
		if text := trimEnd(data); len(text) > 0 {
			p.Data = text
		}
	}
	p.Next = p.Offset + int64(len(p.Data))
	return p, nil
}

// count is a number of bytes as the guest says it.
func count(n uint64) int64 { return int64(min(n, 1<<62)) }

// guestCall runs a call that asks the guest of a running environment.
func (m *Manager) guestCall(ctx context.Context, id string, limit time.Duration, do func(context.Context, *guest.Client) error) error {
	ctx, c, err := m.begin(ctx, id)
	if err != nil {
		return err
	}
	defer c.done()
	callCtx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: %w", ErrLost, errNoAnswer))
	defer cancel()
	return c.explain(ctx, do(callCtx, c.machine.Guest()))
}
