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

// ArchiveOut writes a tree of the guest to w as a tar archive. The archive comes
// from the guest and is as hostile as the guest: whoever unpacks it confines it.
// An error leaves w with a part of it.
func (c *Client) ArchiveOut(ctx context.Context, req *guestv1.FilesystemArchiveOutRequest, w io.Writer) (*guestv1.ArchiveSummary, error) {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.filesystem.ArchiveOut(streamCtx, connect.NewRequest(req))
	if err != nil {
		return nil, fmt.Errorf("in the guest: %w", err)
	}
	defer func() {
		cancel() // Close reads to the end
		_ = stream.Close()
	}()
	var done *guestv1.ArchiveSummary
	for stream.Receive() {
		if _, err := w.Write(stream.Msg().GetData()); err != nil {
			return nil, fmt.Errorf("in the guest: %w", err)
		}
		done = stream.Msg().GetDone()
	}
	if err := stream.Err(); err != nil {
		return nil, fmt.Errorf("in the guest: %w", err)
	}
	if done == nil {
		return nil, errors.New("copy from guest: the archive has no end")
	}
	return done, nil
}

// ArchiveIn unpacks the tar archive r in the guest. What was unpacked before an
// error stays there.
func (c *Client) ArchiveIn(ctx context.Context, open *guestv1.ArchiveOpen, r io.Reader) (*guestv1.FilesystemArchiveInResponse, error) {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel() // breaks the stream, unless it was closed and answered
	stream := c.filesystem.ArchiveIn(streamCtx)
	err := stream.Send(&guestv1.FilesystemArchiveInRequest{Message: &guestv1.FilesystemArchiveInRequest_Open{Open: open}})
	buf := make([]byte, writeChunk)
	for err == nil {
		n, rerr := io.ReadFull(r, buf)
		if n > 0 {
			err = stream.Send(&guestv1.FilesystemArchiveInRequest{Message: &guestv1.FilesystemArchiveInRequest_Data{Data: buf[:n]}})
		}
		if errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF) {
			break
		}
		if rerr != nil {
			return nil, fmt.Errorf("copy to guest: read source: %w", rerr)
		}
	}
	if ctx.Err() != nil {
		// Closing the stream would say that all has arrived.
		return nil, fmt.Errorf("copy to guest: %w", context.Cause(ctx))
	}
	// A failed Send hides the guest's answer, which CloseAndReceive has.
	resp, rerr := stream.CloseAndReceive()
	if rerr != nil {
		return nil, fmt.Errorf("copy to guest: %w", rerr)
	}
	if err != nil {
		return nil, fmt.Errorf("in the guest: %w", err)
	}
	return resp.Msg, nil
}
