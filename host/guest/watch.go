// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Watch hands each change below a directory to take, until ctx ends, the
// directory is gone (nil) or take returns an error, which is then Watch's own. The
// first change says that the watch stands.
func (c *Client) Watch(ctx context.Context, req *guestv1.FilesystemWatchRequest, take func(*guestv1.FilesystemWatchResponse) error) error {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.filesystem.Watch(streamCtx, connect.NewRequest(req))
	if err != nil {
		return fmt.Errorf("watch guest directory: %w", err)
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
		return fmt.Errorf("watch guest directory: %w", err)
	}
	return nil
}
