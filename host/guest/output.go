// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// OutputRange asks for a piece of one stream of an exec.
type OutputRange struct {
	ExecID string
	Stderr bool
	// Offset is the first byte wanted and End the one after the last: no more than
	// was written when the exec was last looked at, or Output waits for the rest.
	Offset, End uint64
	// Other is where the other stream stands. What came there since is skipped.
	Other uint64
}

// Exec describes one exec.
func (c *Client) Exec(ctx context.Context, execID string) (*guestv1.ExecInfo, error) {
	resp, err := c.process.Get(ctx, connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: execID}))
	if err != nil {
		return nil, fmt.Errorf("get exec: %w", err)
	}
	if resp.Msg.GetExec() == nil {
		return nil, fmt.Errorf("get exec: %w", errBadStream)
	}
	return resp.Msg.GetExec(), nil
}

// Output reads a piece of what an exec has written. It begins at offset, which is
// beyond the one asked for when the guest keeps those bytes no more; then data may be
// empty.
func (c *Client) Output(ctx context.Context, r OutputRange) (offset uint64, data []byte, err error) {
	offset = r.Offset
	from := &guestv1.Cursor{StdoutOffset: r.Offset, StderrOffset: r.Other}
	if r.Stderr {
		from = &guestv1.Cursor{StdoutOffset: r.Other, StderrOffset: r.Offset}
	}
	if r.Offset >= r.End {
		return offset, nil, nil
	}
	err = c.attach(ctx, r.ExecID, from, func(stderr bool, out *guestv1.Output) (done bool, err error) {
		if stderr != r.Stderr {
			return false, nil
		}
		at, p := out.GetOffset(), out.GetData()
		switch next := offset + uint64(len(data)); {
		case at < next || at+uint64(len(p)) < at:
			return false, fmt.Errorf("%w: output goes back", errBadStream)
		case at > next && len(data) > 0:
			return true, nil // the gap ends this piece
		case at > next:
			offset = at
		}
		if at >= r.End {
			return true, nil
		}
		data = append(data, p[:min(uint64(len(p)), r.End-at)]...)
		return offset+uint64(len(data)) >= r.End, nil
	})
	if err != nil {
		return 0, nil, fmt.Errorf("read output: %w", err)
	}
	return offset, data, nil
}

// Await returns when an exec has written more than from says, or has ended.
func (c *Client) Await(ctx context.Context, execID string, from *guestv1.Cursor) error {
	err := c.attach(ctx, execID, from, func(bool, *guestv1.Output) (bool, error) { return true, nil })
	if err != nil {
		return fmt.Errorf("wait for output: %w", err)
	}
	return nil
}

// attach looks on an exec from a place in its output, until take has enough or the
// exec has ended.
func (c *Client) attach(
	ctx context.Context, execID string, from *guestv1.Cursor, take func(stderr bool, out *guestv1.Output) (done bool, err error),
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := c.process.Run(ctx)
	defer func() { _ = stream.CloseResponse() }()
	// A failed Send hides the server's answer, which Receive has.
	_ = stream.Send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Attach{
		Attach: &guestv1.Attach{ExecId: execID, Cursor: from, MainOnly: true},
	}})
	_ = stream.CloseRequest()
	for {
		msg, err := stream.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF // no exited: the stream was cut
		case err != nil:
			return err
		}
		var done bool
		switch m := msg.GetMessage().(type) {
		case *guestv1.ProcessRunResponse_Stdout:
			done, err = take(false, m.Stdout)
		case *guestv1.ProcessRunResponse_Stderr:
			done, err = take(true, m.Stderr)
		case *guestv1.ProcessRunResponse_Exited:
			return nil
		}
		if done || err != nil {
			return err
		}
	}
}

// Follow waits for the end of an exec, and skips its output from the places on that
// its streams have reached.
func (c *Client) Follow(ctx context.Context, execID string, stdout, stderr uint64) (*guestv1.Exited, error) {
	return c.Run(ctx, Exec{Attach: &guestv1.Attach{
		ExecId: execID, Cursor: &guestv1.Cursor{StdoutOffset: stdout, StderrOffset: stderr}, MainOnly: true,
	}})
}
