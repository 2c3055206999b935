// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"syscall"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Execs describes the execs that run or are still kept, oldest first.
func (c *Client) Execs(ctx context.Context) ([]*guestv1.ExecInfo, error) {
	resp, err := c.process.List(ctx, connect.NewRequest(&guestv1.ProcessListRequest{}))
	if err != nil {
		return nil, fmt.Errorf("list execs: %w", err)
	}
	return resp.Msg.GetExecs(), nil
}

// Probe asks what commands get that name nothing but a program, and which programs
// there are.
func (c *Client) Probe(ctx context.Context, programs []string) (*guestv1.ProcessProbeResponse, error) {
	resp, err := c.process.Probe(ctx, connect.NewRequest(&guestv1.ProcessProbeRequest{Programs: programs}))
	if err != nil {
		return nil, fmt.Errorf("look for programs: %w", err)
	}
	return resp.Msg, nil
}

// Signal sends a signal, numbered as Linux does, to the main process of an exec,
// or to every process of it.
func (c *Client) Signal(ctx context.Context, execID string, signal syscall.Signal, all bool) error {
	return c.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: execID, Signal: int32(signal), All: all})
}

// Terminate begins to end an exec with all its processes: SIGTERM, the exec's
// grace, SIGKILL. It does not wait for the end.
func (c *Client) Terminate(ctx context.Context, execID string) error {
	return c.signal(ctx, &guestv1.ProcessSignalRequest{ExecId: execID, Terminate: true})
}

func (c *Client) signal(ctx context.Context, req *guestv1.ProcessSignalRequest) error {
	if _, err := c.process.Signal(ctx, connect.NewRequest(req)); err != nil {
		return fmt.Errorf("signal exec: %w", err)
	}
	return nil
}
