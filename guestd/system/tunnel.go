// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	tunnelDial  = 10 * time.Second
	tunnelPiece = 32 << 10 // bytes
)

type tunnelStream = connect.BidiStream[guestv1.SystemTunnelRequest, guestv1.SystemTunnelResponse]

// Tunnel carries a TCP stream. This goroutine sends what the port says; another
// one receives, and ends when the client closes its side or the call is over.
func (s *Service) Tunnel(ctx context.Context, stream *tunnelStream) error {
	first, err := stream.Receive()
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("open: is required as the first message"))
	}
	port := first.GetOpen().GetPort()
	if port == 0 || port > 65535 {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("open.port: %d is not within 1 to 65535", port))
	}
	dialer := net.Dialer{Timeout: tunnelDial}
	dialled, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("localhost", strconv.Itoa(int(port))))
	if err != nil {
		return connect.NewError(connect.CodeUnavailable, fmt.Errorf("nothing serves port %d: %w", port, err))
	}
	conn := dialled.(*net.TCPConn)
	defer conn.Close()
	// A blocked read or write of conn ends with the call.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := stream.Send(&guestv1.SystemTunnelResponse{}); err != nil {
		return err
	}
	go func() {
		// Ends at the latest when the handler returns, which fails Receive.
		if err := toPort(stream, conn); err != nil {
			_ = conn.Close() // wakes the sender
		}
	}()
	return toClient(stream, conn)
}

// toPort writes what the client sends, and half-closes after it.
func toPort(stream *tunnelStream, conn *net.TCPConn) error {
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return conn.CloseWrite()
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(msg.GetData()); err != nil {
			return err
		}
	}
}

// toClient sends what the port says until its end.
func toClient(stream *tunnelStream, conn *net.TCPConn) error {
	buf := make([]byte, tunnelPiece)
	msg := &guestv1.SystemTunnelResponse{}
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			msg.Data = buf[:n] // Send is done with it when it returns
			if err := stream.Send(msg); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return connect.NewError(connect.CodeAborted, fmt.Errorf("read from port: %w", err))
		}
	}
}
