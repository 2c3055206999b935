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

// writeChunk is the data of one message of a write, in bytes.
const writeChunk = 512 << 10

// ReadFile streams a file, or the range that req asks for, to w and returns the
// file as it was when it was opened. The error of w ends the read.
func (c *Client) ReadFile(ctx context.Context, req *guestv1.FilesystemReadRequest, w io.Writer) (*guestv1.Entry, error) {
	stream, err := c.filesystem.Read(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, fmt.Errorf("in the guest: %w", err)
	}
	defer func() { _ = stream.Close() }()
	var entry *guestv1.Entry
	left := req.GetLimit()
	for stream.Receive() {
		switch m := stream.Msg().GetMessage().(type) {
		case *guestv1.FilesystemReadResponse_Entry:
			entry = m.Entry
		case *guestv1.FilesystemReadResponse_Data:
			if req.GetLimit() > 0 {
				if uint64(len(m.Data)) > left {
					return entry, errors.New("read guest file: the guest sent more than was asked for")
				}
				left -= uint64(len(m.Data))
			}
			if _, err := w.Write(m.Data); err != nil {
				return entry, fmt.Errorf("read guest file: write: %w", err)
			}
		}
	}
	if err := stream.Err(); err != nil {
		return entry, fmt.Errorf("in the guest: %w", err)
	}
	if entry == nil {
		return nil, errors.New("read guest file: the guest did not describe it")
	}
	return entry, nil
}

// WriteFile writes what r holds. The file is replaced when all of r has arrived:
// an error of r, or the end of ctx, leaves the old file as it was.
func (c *Client) WriteFile(ctx context.Context, open *guestv1.WriteOpen, r io.Reader) (*guestv1.FilesystemWriteResponse, error) {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel() // breaks the stream, unless it was closed and answered
	stream := c.filesystem.Write(streamCtx)
	err := stream.Send(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Open{Open: open}})
	buf := make([]byte, writeChunk)
	for err == nil {
		n, rerr := io.ReadFull(r, buf)
		if n > 0 {
			err = stream.Send(&guestv1.FilesystemWriteRequest{Message: &guestv1.FilesystemWriteRequest_Data{Data: buf[:n]}})
		}
		if errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF) {
			break
		}
		if rerr != nil {
			return nil, fmt.Errorf("write guest file: read source: %w", rerr)
		}
	}
	if ctx.Err() != nil {
		// Closing the stream would say that all has arrived.
		return nil, fmt.Errorf("write guest file: %w", context.Cause(ctx))
	}
	// A failed Send hides the guest's answer, which CloseAndReceive has.
	resp, rerr := stream.CloseAndReceive()
	if rerr != nil {
		return nil, fmt.Errorf("write guest file: %w", rerr)
	}
	if err != nil {
		return nil, fmt.Errorf("in the guest: %w", err)
	}
	return resp.Msg, nil
}

// Stat describes one file.
func (c *Client) Stat(ctx context.Context, req *guestv1.FilesystemStatRequest) (*guestv1.Entry, error) {
	resp, err := c.filesystem.Stat(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, fmt.Errorf("in the guest: %w", err)
	}
	return resp.Msg.GetEntry(), nil
}

// Listing is the content of a directory, or the beginning of it.
type Listing struct {
	Entries []*guestv1.Entry
	// Truncated: there are more entries than the limit.
	Truncated bool
	// Errors are what could not be read below.
	Errors []*guestv1.FileError
}

// List describes up to limit entries, in the order of their paths.
func (c *Client) List(ctx context.Context, req *guestv1.FilesystemListRequest, limit int) (*Listing, error) {
	page := &guestv1.FilesystemListRequest{
		Path: req.GetPath(), Depth: req.GetDepth(), PageSize: req.GetPageSize(),
		PageToken: req.GetPageToken(), AsRoot: req.GetAsRoot(),
	}
	var l Listing
	for {
		resp, err := c.filesystem.List(ctx, connect.NewRequest(page))
		if err != nil {
			return nil, fmt.Errorf("list guest directory: %w", err)
		}
		entries, next := resp.Msg.GetEntries(), resp.Msg.GetNextPageToken()
		if room := limit - len(l.Entries); len(entries) > room {
			l.Entries, l.Truncated = append(l.Entries, entries[:room]...), true
			return &l, nil
		}
		l.Entries = append(l.Entries, entries...)
		l.Errors = append(l.Errors, resp.Msg.GetErrors()...)
		if next == "" || len(l.Entries) == limit {
			l.Truncated = next != ""
			return &l, nil
		}
		if len(entries) == 0 { // each page moves on, or this could go on for ever
			return nil, errors.New("list guest directory: the guest sent an empty page that is not the last")
		}
		page.PageToken = next
	}
}
