// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func started() *guestv1.ProcessRunResponse {
	return &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Started{Started: &guestv1.Started{Pid: 7}}}
}

func stdout(offset uint64, data string) *guestv1.ProcessRunResponse {
	return &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Stdout{
		Stdout: &guestv1.Output{Offset: offset, Data: []byte(data)},
	}}
}

func stderr(offset uint64, data string) *guestv1.ProcessRunResponse {
	return &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Stderr{
		Stderr: &guestv1.Output{Offset: offset, Data: []byte(data)},
	}}
}

func exited(code int32) *guestv1.ProcessRunResponse {
	return &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Exited{
		Exited: &guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{ExitCode: code}},
	}}
}

func send(s *runStream, msgs ...*guestv1.ProcessRunResponse) error {
	for _, m := range msgs {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return nil
}

var command = &guestv1.Start{ExecId: "e1", Command: &guestv1.Start_Shell{Shell: "true"}}

func TestRun(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, &fake{run: func(_ context.Context, s *runStream) error {
		return send(s, started(), stdout(0, "out"), stderr(0, "err"), stdout(3, "put"), exited(3))
	}})
	var out, errOut bytes.Buffer
	pids := 0
	res, err := c.Run(t.Context(), guest.Exec{
		Start: command, Stdout: &out, Stderr: &errOut,
		Started: func(s *guestv1.Started) { pids += int(s.GetPid()) },
	})
	require.NoError(t, err)
	require.Equal(t, int32(3), res.GetExitCode())
	require.Equal(t, "output", out.String())
	require.Equal(t, "err", errOut.String())
	require.Equal(t, 7, pids)
}

// TestRunReattach cuts the connection in the middle of the output: the exec is
// attached to, not started again, and no byte comes twice or is missing.
func TestRunReattach(t *testing.T) {
	t.Parallel()
	var track *conns
	var first []*guestv1.ProcessRunRequest
	c, track := serve(t, &fake{run: func(ctx context.Context, s *runStream) error {
		req, err := s.Receive()
		if err != nil {
			return err
		}
		first = append(first, req)
		if req.GetAttach() == nil {
			if err := send(s, started(), stdout(0, "abc")); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}
		// A replay may begin before the cursor.
		return send(s, started(), stdout(1, "bc"), stdout(2, "cdef"), exited(0))
	}})
	var out bytes.Buffer
	cut := false
	res, err := c.Run(t.Context(), guest.Exec{Start: command, Stdout: writerFunc(func(p []byte) (int, error) {
		if !cut {
			cut = true
			track.cut()
		}
		return out.Write(p)
	})})
	require.NoError(t, err)
	require.Zero(t, res.GetExitCode())
	require.Equal(t, "abcdef", out.String())
	require.Len(t, first, 2)
	require.Equal(t, "e1", first[0].GetStart().GetExecId())
	require.Equal(t, "e1", first[1].GetAttach().GetExecId())
	require.Equal(t, uint64(3), first[1].GetAttach().GetCursor().GetStdoutOffset())
}

// TestRunLostForEver ends: a guest that cuts every stream is given up.
func TestRunLostForEver(t *testing.T) {
	t.Parallel()
	var track *conns
	c, track := serve(t, &fake{run: func(context.Context, *runStream) error {
		track.cut()
		return nil
	}})
	_, err := c.Run(t.Context(), guest.Exec{Start: command})
	require.Error(t, err)
	track.mu.Lock()
	defer track.mu.Unlock()
	require.Greater(t, track.dials, 2)
}

func TestRunStdin(t *testing.T) {
	t.Parallel()
	echo := func(_ context.Context, s *runStream) error {
		var at uint64
		for {
			req, err := s.Receive()
			if err != nil {
				return err
			}
			switch m := req.GetMessage().(type) {
			case *guestv1.ProcessRunRequest_Start:
				err = s.Send(started())
			case *guestv1.ProcessRunRequest_Stdin:
				err = s.Send(stdout(at, string(m.Stdin)))
				at += uint64(len(m.Stdin))
			case *guestv1.ProcessRunRequest_CloseStdin:
				return s.Send(exited(0))
			}
			if err != nil {
				return err
			}
		}
	}
	c, _ := serve(t, &fake{run: echo})
	in := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	var out bytes.Buffer
	_, err := c.Run(t.Context(), guest.Exec{Start: command, Stdin: strings.NewReader(in), Stdout: &out})
	require.NoError(t, err)
	require.True(t, in == out.String())
}

func TestRunErrors(t *testing.T) {
	t.Parallel()
	refuse := func(context.Context, *runStream) error {
		return connect.NewError(connect.CodeUnavailable, errors.New("no room"))
	}
	flood := func(_ context.Context, s *runStream) error {
		return send(s, started(), stdout(^uint64(0), "x"), exited(0))
	}
	talk := func(_ context.Context, s *runStream) error {
		return send(s, started(), stdout(0, "x"), exited(0))
	}
	for _, tc := range []struct {
		name string
		run  func(context.Context, *runStream) error
		exec guest.Exec
		want string
	}{
		{"an answer is not asked for again", refuse, guest.Exec{}, "no room"},
		{"an offset out of range", flood, guest.Exec{Stdout: io.Discard}, "broke the exec stream"},
		{"a writer that fails", talk, guest.Exec{Stdout: failing{}}, "disk full"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			c, _ := serve(t, &fake{run: func(ctx context.Context, s *runStream) error {
				calls++
				return tc.run(ctx, s)
			}})
			tc.exec.Start = command
			_, err := c.Run(t.Context(), tc.exec)
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, 1, calls)
		})
	}
}

// TestRunInputLost: an exec with input is not continued, because nobody knows
// how much of the input arrived.
func TestRunInputLost(t *testing.T) {
	t.Parallel()
	var track *conns
	calls := 0
	c, track := serve(t, &fake{run: func(context.Context, *runStream) error {
		calls++
		track.cut()
		return nil
	}})
	_, err := c.Run(t.Context(), guest.Exec{Start: command, Stdin: iotest.OneByteReader(strings.NewReader("abc"))})
	require.ErrorContains(t, err, "had an input")
	require.Equal(t, 1, calls)
}

// TestRunCancel: a command whose caller has gone is ended at once, unless it may run on.
func TestRunCancel(t *testing.T) {
	t.Parallel()
	for policy, signals := range map[guestv1.DetachPolicy]int{
		guestv1.DetachPolicy_DETACH_POLICY_UNSPECIFIED:  1,
		guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING: 0,
	} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			ended := make(chan struct{})
			signalled := make(chan *guestv1.ProcessSignalRequest, 1)
			c, _ := serve(t, &fake{
				signal: func(req *guestv1.ProcessSignalRequest) { signalled <- req },
				run: func(ctx context.Context, s *runStream) error {
					defer close(ended)
					if err := send(s, started()); err != nil {
						return err
					}
					<-ctx.Done()
					return ctx.Err()
				},
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("the user left")
			start := proto.CloneOf(command)
			start.OnDetach = policy
			_, err := c.Run(ctx, guest.Exec{Start: start, Started: func(*guestv1.Started) { cancel(why) }})
			require.ErrorIs(t, err, why)
			<-ended                            // the guest learns of it
			require.Len(t, signalled, signals) // and has been told when Run returns
			if signals > 0 {
				req := <-signalled
				require.True(t, req.GetTerminate())
				require.Equal(t, command.GetExecId(), req.GetExecId())
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }
