// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd

import (
	"context"
	"net"
	"net/http"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/guestd/process"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// inner serves Process to guestd's own services, which run commands as any
// client does.
type inner struct {
	conns     chan net.Conn
	done      chan struct{}
	server    *http.Server
	transport *http.Transport
	served    chan struct{}
}

// startInner serves svc. The caller calls close.
func startInner(svc *process.Service) *inner {
	in := &inner{conns: make(chan net.Conn), done: make(chan struct{}), served: make(chan struct{})}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	_, handler := guestv1connect.NewProcessHandler(svc, connect.WithReadMaxBytes(process.ReadMaxBytes), uncompressed())
	in.server = &http.Server{Handler: handler, Protocols: protocols}
	in.transport = &http.Transport{Protocols: protocols, DialContext: in.dial}
	go func() {
		defer close(in.served)
		_ = in.server.Serve(in) // ends with ErrServerClosed, by close
	}()
	return in
}

func (in *inner) client() guestv1connect.ProcessClient {
	return guestv1connect.NewProcessClient(&http.Client{Transport: in.transport}, "http://guestd",
		connect.WithGRPC(), connect.WithAcceptCompression("gzip", nil, nil))
}

func (in *inner) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case in.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-in.done:
		return nil, net.ErrClosed
	}
}

// Accept implements net.Listener.
func (in *inner) Accept() (net.Conn, error) {
	select {
	case conn := <-in.conns:
		return conn, nil
	case <-in.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; the server calls it once.
func (in *inner) Close() error {
	close(in.done)
	return nil
}

// Addr implements net.Listener.
func (in *inner) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// close cuts what runs and returns when the server has ended.
func (in *inner) close() {
	_ = in.server.Close() // in.Close cannot fail
	<-in.served
	in.transport.CloseIdleConnections()
}
