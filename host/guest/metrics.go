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

// Metrics hands each measurement of the machine to take, the first one at once,
// until ctx ends or take returns an error, which is then Metrics' own. It does
// not count as activity in the guest.
func (c *Client) Metrics(ctx context.Context, interval time.Duration, take func(*guestv1.SystemMetricsResponse) error) error {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &guestv1.SystemMetricsRequest{Interval: durationpb.New(interval)}
	stream, err := c.system.Metrics(streamCtx, connect.NewRequest(req))
	if err != nil {
		return fmt.Errorf("measure guest: %w", err)
	}
	defer func() {
		cancel() // Close reads to the end, which would not come by itself
		_ = stream.Close()
	}()
	for stream.Receive() {
		if err := take(stream.Msg()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := stream.Err(); err != nil {
		return fmt.Errorf("measure guest: %w", err)
	}
	return nil
}
