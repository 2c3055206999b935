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

// tunnelPiece is the most that one message of a tunnel carries, in bytes.
const tunnelPiece = 32 << 10

// Tunnel carries a TCP stream to a port on the guest's loopback. One goroutine
// may read while another one writes.
type Tunnel struct {
	stream *connect.BidiStreamForClient[guestv1.SystemTunnelRequest, guestv1.SystemTunnelResponse]
	cancel context.CancelFunc
	rest   []byte // received and not read yet
}

// Tunnel connects to a port of the guest. The connection ends with ctx, and with
// Close, which the caller must call.
func (c *Client) Tunnel(ctx context.Context, port uint16) (*Tunnel, error) {
	streamCtx, cancel := context.WithCancel(ctx)
	t := &Tunnel{stream: c.system.Tunnel(streamCtx), cancel: cancel}
	open := &guestv1.SystemTunnelRequest{Message: &guestv1.SystemTunnelRequest_Open{
		Open: &guestv1.TunnelOpen{Port: uint32(port)},
	}}
	// A failed Send hides the guest's answer, which Receive has. The first
	// answer is empty: the connection stands.
	_ = t.stream.Send(open)
	if _, err := t.stream.Receive(); err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("open tunnel to port %d: %w", port, err)
	}
	return t, nil
}

// Read returns io.EOF when the port has closed its side.
func (t *Tunnel) Read(p []byte) (int, error) {
	for len(t.rest) == 0 {
		msg, err := t.stream.Receive()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fmt.Errorf("read from tunnel: %w", err)
		}
		t.rest = msg.GetData()
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// Write implements io.Writer.
func (t *Tunnel) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		piece := p[sent:min(len(p), sent+tunnelPiece)]
		msg := &guestv1.SystemTunnelRequest{Message: &guestv1.SystemTunnelRequest_Data{Data: piece}}
		if err := t.stream.Send(msg); err != nil {
			return sent, fmt.Errorf("write to tunnel: %w", err)
		}
		sent += len(piece)
	}
	return sent, nil
}

// CloseWrite tells the port that nothing more comes; reading goes on.
func (t *Tunnel) CloseWrite() error { return t.stream.CloseRequest() }

// Close ends the tunnel both ways. It is idempotent, and wakes a blocked Read.
func (t *Tunnel) Close() error {
	t.cancel() // first: closing the response reads to its end
	_ = t.stream.CloseRequest()
	_ = t.stream.CloseResponse()
	return nil
}
