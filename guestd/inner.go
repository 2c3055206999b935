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
	listener  *pipes
	server    *http.Server
	transport *http.Transport
	served    chan struct{}
}

// startInner serves svc. The caller calls close.
func startInner(svc *process.Service) *inner {
	in := &inner{listener: newPipes(), served: make(chan struct{})}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	_, handler := guestv1connect.NewProcessHandler(svc, connect.WithReadMaxBytes(process.ReadMaxBytes), uncompressed())
	in.server = &http.Server{Handler: handler, Protocols: protocols}
	in.transport = &http.Transport{
		Protocols:   protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return in.listener.dial(ctx) },
	}
	go func() {
		defer close(in.served)
		_ = in.server.Serve(in.listener) // ends with ErrServerClosed, by close
	}()
	return in
}

func (in *inner) client() guestv1connect.ProcessClient {
	return guestv1connect.NewProcessClient(&http.Client{Transport: in.transport}, "http://guestd",
		connect.WithGRPC(), connect.WithAcceptCompression("gzip", nil, nil))
}

// close cuts what runs and returns when the server has ended.
func (in *inner) close() {
	_ = in.server.Close() // closing the listener cannot fail
	<-in.served
	in.transport.CloseIdleConnections()
}
