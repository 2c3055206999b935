// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/host/guest"
)

// dialTimeout bounds the connection to a port, not what is carried.
const dialTimeout = 10 * time.Second

// CheckPort says whether port can be one of an environment's.
func CheckPort(port int) error {
	if port < 1 || port > 65535 {
		return invalid("port", "must be 1 to 65535")
	}
	return nil
}

// Dial connects to a port of an environment's loopback. ctx bounds the dialling; the
// connection lives until it is closed, or the environment ends. Nobody who listens is
// ErrNoPort.
func (m *Manager) Dial(ctx context.Context, id string, port int) (net.Conn, error) {
	if err := CheckPort(port); err != nil {
		return nil, err
	}
	life, c, err := m.begin(context.WithoutCancel(ctx), id)
	if err != nil {
		return nil, err
	}
	wait := time.AfterFunc(dialTimeout, func() { c.cancel(fmt.Errorf("%w: no answer within %s", ErrNoPort, dialTimeout)) })
	gone := context.AfterFunc(ctx, func() { c.cancel(context.Cause(ctx)) })
	tunnel, err := c.machine.Guest().Tunnel(life, uint16(port))
	if stopped := wait.Stop() && gone(); err != nil || !stopped {
		if err == nil {
			_ = tunnel.Close()
		}
		defer c.done()
		switch {
		case life.Err() != nil:
			return nil, context.Cause(life)
		case connect.IsWireError(err) && connect.CodeOf(err) == connect.CodeUnavailable:
			return nil, fmt.Errorf("%w: %s", ErrNoPort, plain(guest.Text(err), maxGuestText))
		}
		return nil, c.explain(ctx, guestError(ctx, "open the port", err))
	}
	return &portConn{Tunnel: tunnel, id: id, port: port, done: sync.OnceFunc(c.done)}, nil
}

// portConn is a connection to a port. It has no deadlines: who wants one closes it.
type portConn struct {
	*guest.Tunnel
	id   string
	port int
	done func()
}

// Close implements net.Conn.
func (c *portConn) Close() error {
	defer c.done()
	return c.Tunnel.Close()
}

// LocalAddr implements net.Conn.
func (c *portConn) LocalAddr() net.Addr { return portAddr{"waggle", 0} }

// RemoteAddr implements net.Conn.
func (c *portConn) RemoteAddr() net.Addr { return portAddr{c.id, c.port} }

// SetDeadline implements net.Conn.
func (*portConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (*portConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (*portConn) SetWriteDeadline(time.Time) error { return nil }

type portAddr struct {
	host string
	port int
}

func (portAddr) Network() string  { return "environment" }
func (a portAddr) String() string { return net.JoinHostPort(a.host, strconv.Itoa(a.port)) }
