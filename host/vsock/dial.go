// SPDX-License-Identifier: Apache-2.0

package vsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"runtime"
	"syscall"

	mdvsock "github.com/mdlayher/vsock"
)

// Dial connects to the guest port. ctx bounds the connection's set-up only,
// the CONNECT handshake included. Every connection that it returns has a
// CloseWrite() error method. Dial may be called concurrently.
func (a Addr) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := a.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial guest at %s: %w", a, explain(err))
	}
	return conn, nil
}

func (a Addr) dial(ctx context.Context) (net.Conn, error) {
	switch a.scheme {
	case schemeUnix:
		return dialUnix(ctx, a.path)
	case schemeHybrid:
		conn, err := dialUnix(ctx, a.path)
		if err != nil {
			return nil, err
		}
		if err := connect(ctx, conn, a.port); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	case schemeVsock:
		if runtime.GOOS != "linux" {
			return nil, fmt.Errorf("AF_VSOCK does not exist on %s; use a unix:// or hybrid:// address", runtime.GOOS)
		}
		return mdvsock.DialContext(ctx, a.cid, a.port, nil)
	}
	return nil, errors.New("address is empty")
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// explain adds the remedy to the failures that have one.
func explain(err error) error {
	var hint string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "no such socket: is the VM running?"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "nobody listens there: has the VM or its supervisor ended?"
	case errors.Is(err, fs.ErrPermission):
		hint = "the socket belongs to another user"
	case errors.Is(err, syscall.EAFNOSUPPORT):
		hint = "this kernel has no AF_VSOCK: modprobe vhost_vsock, or use a unix:// address"
	case errors.Is(err, syscall.ENODEV):
		hint = "no VM has this CID, or the vhost_vsock module is missing: modprobe vhost_vsock"
	case errors.Is(err, syscall.ECONNRESET):
		hint = "the guest refused the port: does guestd run?"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}
