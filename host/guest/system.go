// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Info describes the machine. It does not count as activity in the guest.
func (c *Client) Info(ctx context.Context) (*guestv1.SystemInfoResponse, error) {
	resp, err := c.system.Info(ctx, connect.NewRequest(&guestv1.SystemInfoRequest{}))
	if err != nil {
		return nil, fmt.Errorf("ask guest for its state: %w", err)
	}
	return resp.Msg, nil
}

// Configure hands in what only the host knows.
func (c *Client) Configure(ctx context.Context, req *guestv1.SystemConfigureRequest) error {
	if _, err := c.system.Configure(ctx, connect.NewRequest(req)); err != nil {
		return fmt.Errorf("configure guest: %w", err)
	}
	return nil
}

// Shutdown ends all execs and powers the machine off. grace is the time between
// SIGTERM and SIGKILL. It returns when the guest has answered, which is before
// the power goes.
func (c *Client) Shutdown(ctx context.Context, grace time.Duration) error {
	req := &guestv1.SystemShutdownRequest{Grace: durationpb.New(grace)}
	if _, err := c.system.Shutdown(ctx, connect.NewRequest(req)); err != nil {
		return fmt.Errorf("shut guest down: %w", err)
	}
	return nil
}
