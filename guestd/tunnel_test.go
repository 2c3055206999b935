// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// TestTunnel sends all, half-closes, and only then gets the answer.
func TestTunnel(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		data, err := io.ReadAll(conn) // until the half-close
		if err == nil {
			_, err = conn.Write(data)
		}
		served <- err
	}()
	system := guestv1connect.NewSystemClient(start(t), "http://guest", connect.WithGRPC())
	open := func(port int) *connect.BidiStreamForClient[guestv1.SystemTunnelRequest, guestv1.SystemTunnelResponse] {
		stream := system.Tunnel(t.Context())
		require.NoError(t, stream.Send(&guestv1.SystemTunnelRequest{Message: &guestv1.SystemTunnelRequest_Open{
			Open: &guestv1.TunnelOpen{Port: uint32(port)},
		}}))
		return stream
	}
	stream := open(l.Addr().(*net.TCPAddr).Port)
	first, err := stream.Receive()
	require.NoError(t, err)
	require.Empty(t, first.GetData(), "the first message says that the connection stands")
	piece := make([]byte, 100<<10)
	for i := range piece {
		piece[i] = byte(i)
	}
	require.NoError(t, stream.Send(&guestv1.SystemTunnelRequest{Message: &guestv1.SystemTunnelRequest_Data{Data: piece}}))
	require.NoError(t, stream.CloseRequest())
	var got []byte
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		got = append(got, msg.GetData()...)
	}
	require.Equal(t, piece, got)
	require.NoError(t, <-served)

	for port, code := range map[int]connect.Code{0: connect.CodeInvalidArgument, 65536: connect.CodeInvalidArgument} {
		_, err := open(port).Receive()
		require.Equal(t, code, connect.CodeOf(err), "%v", err)
	}
	require.NoError(t, l.Close())
	_, err = open(l.Addr().(*net.TCPAddr).Port).Receive()
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
}
