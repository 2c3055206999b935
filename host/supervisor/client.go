// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/socket"
	"github.com/stacklok/waggle/host/vsock"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/host/v1/hostv1connect"
)

// ErrGone is a supervisor that does not answer any more: the machine has ended,
// or will within a second.
var ErrGone = errors.New("the environment's supervisor is gone")

// Client talks to one supervisor. All methods may be called concurrently.
type Client struct {
	dir       string
	transport *http.Transport
	api       hostv1connect.SupervisorClient
	guest     *guest.Client
}

// Attach returns a client of the machine in dir. It fails when there is no such
// machine; whether its supervisor still lives shows with the first call. The
// caller closes it, which does nothing to the machine.
func Attach(dir string) (*Client, error) {
	control := filepath.Join(dir, controlSocket)
	if _, err := os.Stat(control); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("attach to %s: %w", dir, ErrGone)
		}
		return nil, fmt.Errorf("attach to %s: %w", dir, err)
	}
	addr, err := vsock.Unix(filepath.Join(dir, guestSocket))
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", dir, err)
	}
	c := &Client{dir: dir, guest: guest.New(addr.Dial)}
	c.transport = socket.Transport(control)
	c.api = hostv1connect.NewSupervisorClient(&http.Client{Transport: c.transport}, "http://supervisor")
	return c, nil
}

// Dir is the machine's directory.
func (c *Client) Dir() string { return c.dir }

// ID is the machine's id.
func (c *Client) ID() string { return filepath.Base(c.dir) }

// Guest is the client of the machine's guestd. It belongs to c.
func (c *Client) Guest() *guest.Client { return c.guest }

// Close lets go of the connections.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return c.guest.Close()
}

// Info describes the machine.
func (c *Client) Info(ctx context.Context) (*hostv1.SupervisorInfoResponse, error) {
	resp, err := c.api.Info(ctx, connect.NewRequest(&hostv1.SupervisorInfoRequest{}))
	if err != nil {
		return nil, c.wrap(ctx, "describe", err)
	}
	return resp.Msg, nil
}

// Wait calls each for the state now and each that follows, until it returns
// false, the machine has ended, or ctx ends. With a holder, the caller owns the
// machine meanwhile.
func (c *Client) Wait(ctx context.Context, holder string, each func(*hostv1.State) bool) error {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.Wait(streamCtx, connect.NewRequest(&hostv1.SupervisorWaitRequest{Holder: holder}))
	if err != nil {
		return c.wrap(ctx, "follow", err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		state := stream.Msg().GetState()
		if !each(state) || state.GetPhase() == hostv1.Phase_PHASE_ENDED {
			return nil
		}
	}
	if err := stream.Err(); err != nil {
		return c.wrap(ctx, "follow", err)
	}
	return c.wrap(ctx, "follow", ErrGone)
}

// EndedError is a machine that ended while it was waited for.
type EndedError struct{ State *hostv1.State }

// Error has the supervisor's words.
func (e *EndedError) Error() string {
	text := fmt.Sprintf("environment ended (%s): %s", CauseName(e.State.GetCause()), e.State.GetMessage())
	if tail := e.State.GetConsoleTail(); tail != "" {
		text += "\nlast lines of its console:\n" + tail
	}
	return text
}

// WaitRunning waits until the guest serves. progress, which may be nil, gets
// each phase.
func (c *Client) WaitRunning(ctx context.Context, holder string, progress func(hostv1.Phase)) error {
	var last *hostv1.State
	err := c.Wait(ctx, holder, func(s *hostv1.State) bool {
		last = s
		if progress != nil {
			progress(s.GetPhase())
		}
		return s.GetPhase() < hostv1.Phase_PHASE_RUNNING || s.GetPhase() == hostv1.Phase_PHASE_STOPPING
	})
	if err == nil && last.GetPhase() == hostv1.Phase_PHASE_ENDED {
		return &EndedError{State: last}
	}
	return orEnded(c.dir, err)
}

// orEnded tells why a supervisor that is gone has ended its machine: one that
// fails at once may be gone before anybody could ask it, but it has left a
// record. Any other error stays as it is.
func orEnded(dir string, err error) error {
	if !errors.Is(err, ErrGone) {
		return err
	}
	record, readErr := ReadRecord(dir)
	if readErr != nil || record.Phase != PhaseName(hostv1.Phase_PHASE_ENDED) {
		return err // nothing better is known
	}
	return &EndedError{State: &hostv1.State{
		Phase:   hostv1.Phase_PHASE_ENDED,
		Since:   timestamppb.New(record.Since),
		Cause:   hostv1.EndCause(hostv1.EndCause_value["END_CAUSE_"+record.Cause]),
		Message: record.Message,
	}}
}

// Stop ends the machine and returns when nothing of it is left. Zero grace cuts
// the power. A machine that has gone meanwhile is ErrGone.
func (c *Client) Stop(ctx context.Context, grace time.Duration, reason string) (*hostv1.State, error) {
	c.guest.CloseIdle()
	resp, err := c.api.Stop(ctx, connect.NewRequest(&hostv1.SupervisorStopRequest{
		Grace: durationpb.New(grace), Reason: reason,
	}))
	if err != nil {
		return nil, c.wrap(ctx, "stop", err)
	}
	return resp.Msg.GetState(), nil
}

// wrap tells a supervisor that is gone from one that refuses.
func (c *Client) wrap(ctx context.Context, verb string, err error) error {
	var refused *connect.Error
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case connect.CodeOf(err) == connect.CodeDeadlineExceeded: // the supervisor may see it first
		err = context.DeadlineExceeded
	case errors.As(err, &refused) && connect.IsWireError(err):
		err = errors.New(refused.Message())
	case errors.Is(err, fs.ErrPermission):
	default: // on a Unix socket nothing else can break a call; how it broke says no more
		err = ErrGone
	}
	return fmt.Errorf("%s environment %s: %w", verb, c.ID(), err)
}
