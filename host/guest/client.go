// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

const (
	// baseURL names nothing: the dial function alone decides where calls go.
	baseURL = "http://guest"
	// maxMessage bounds one message from the guest, in bytes. The largest that
	// an honest guestd sends is a page of 10000 directory entries.
	maxMessage = 8 << 20
	// streamWindow and connWindow are what the guest may send before it is
	// read, in bytes: enough that a reader on the same host never stalls it, and
	// small enough that a hundred environments do not fill the host's memory.
	streamWindow = 1 << 20
	connWindow   = 4 << 20
	frameSize    = 256 << 10
	// pingAfter and pingTimeout find a guest that has stopped without closing
	// its streams. They are long because an emulated guest short of memory may
	// stand still for many seconds and come back.
	pingAfter   = 30 * time.Second
	pingTimeout = 60 * time.Second
)

// DialFunc opens one stream to guestd's port. It may be called concurrently.
type DialFunc func(ctx context.Context) (net.Conn, error)

// Client calls one guestd. All methods may be called concurrently; calls share
// one HTTP/2 connection.
type Client struct {
	transport  *http.Transport
	process    guestv1connect.ProcessClient
	filesystem guestv1connect.FilesystemClient
	packages   guestv1connect.PackagesClient
	system     guestv1connect.SystemClient

	mu     sync.Mutex
	conns  map[*trackedConn]struct{}
	closed bool
}

// New returns a client that dials on its first call, and again when the
// connection was lost. The caller closes it.
func New(dial DialFunc) *Client {
	c := &Client{conns: map[*trackedConn]struct{}{}}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	c.transport = &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return c.track(conn)
		},
		DisableCompression: true,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connWindow,
			MaxReadFrameSize:              frameSize,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
		},
	}
	hc := &http.Client{Transport: hangUp{c.transport}}
	opts := []connect.ClientOption{
		connect.WithReadMaxBytes(maxMessage),
		// The streams never leave the host: compressing them costs time and
		// lets the guest make a small message large.
		connect.WithAcceptCompression("gzip", nil, nil),
	}
	c.process = guestv1connect.NewProcessClient(hc, baseURL, opts...)
	c.filesystem = guestv1connect.NewFilesystemClient(hc, baseURL, opts...)
	c.packages = guestv1connect.NewPackagesClient(hc, baseURL, opts...)
	c.system = guestv1connect.NewSystemClient(hc, baseURL, opts...)
	return c
}

// Process is the plain client of the service.
func (c *Client) Process() guestv1connect.ProcessClient { return c.process }

// Filesystem is the plain client of the service.
func (c *Client) Filesystem() guestv1connect.FilesystemClient { return c.filesystem }

// System is the plain client of the service.
func (c *Client) System() guestv1connect.SystemClient { return c.system }

// Close breaks the calls that run and closes all connections. It is idempotent.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	conns := c.conns
	c.conns = map[*trackedConn]struct{}{}
	c.mu.Unlock()
	c.transport.CloseIdleConnections()
	for conn := range conns {
		_ = conn.Conn.Close()
	}
	return nil
}

// CloseIdle closes the connection when no call is on it. guestd, once it was asked
// to end, waits a moment for its connections: one that nobody uses only delays it.
func (c *Client) CloseIdle() { c.transport.CloseIdleConnections() }

// errClosed ends a dial that a Close overtook.
var errClosed = errors.New("guest client is closed")

func (c *Client) track(conn net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return nil, errClosed
	}
	t := &trackedConn{Conn: conn, owner: c}
	c.conns[t] = struct{}{}
	return t, nil
}

// trackedConn lets Close reach a connection that the transport holds in use.
type trackedConn struct {
	net.Conn
	owner *Client
}

func (t *trackedConn) Close() error {
	t.owner.mu.Lock()
	delete(t.owner.conns, t)
	t.owner.mu.Unlock()
	return t.Conn.Close()
}
