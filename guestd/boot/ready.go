// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mdlayher/vsock"
	"google.golang.org/protobuf/encoding/protodelim"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// deviceLimit bounds the wait for a device that is plugged in later.
	deviceLimit = time.Minute
	// readyLimit bounds the handshake with a host that may be slow to listen.
	readyLimit   = 30 * time.Second
	readyRetry   = 200 * time.Millisecond
	maxHandshake = 64 << 10 // bytes, ready.proto
)

// ErrRefused is returned when the host will not work with this guestd.
var ErrRefused = errors.New("the host refused this guestd")

// Announce tells the host that guestd serves and returns the protocol version
// that the host chose. To be called when the listener is accepting.
func (m *Machine) Announce(ctx context.Context, ready *guestv1.Ready) (uint32, error) {
	deviceCtx, cancel := context.WithTimeout(ctx, deviceLimit)
	defer cancel()
	if err := waitForDevice(deviceCtx); err != nil {
		return 0, err
	}
	return announce(ctx, ready, func(ctx context.Context) (net.Conn, error) {
		return vsock.DialContext(ctx, vsock.Host, readyPort, nil)
	})
}

// AnnounceUnix is Announce for a guestd without a machine: the host listens on a
// Unix socket.
func AnnounceUnix(ctx context.Context, path string, ready *guestv1.Ready) (uint32, error) {
	return announce(ctx, ready, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	})
}

// announce dials until somebody listens, within readyLimit.
func announce(ctx context.Context, ready *guestv1.Ready, dial func(context.Context) (net.Conn, error)) (uint32, error) {
	dialCtx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	retry := time.NewTicker(readyRetry)
	defer retry.Stop()
	for {
		conn, err := dial(dialCtx)
		if err == nil {
			return handshake(ctx, conn, ready)
		}
		select {
		case <-dialCtx.Done():
			return 0, fmt.Errorf("dial the host: %w", err)
		case <-retry.C:
		}
	}
}

// handshake owns conn. A host that takes the call and says nothing must not hold
// up the end of guestd.
func handshake(ctx context.Context, conn net.Conn, ready *guestv1.Ready) (uint32, error) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := protodelim.MarshalTo(conn, ready); err != nil {
		return 0, fmt.Errorf("send ready: %w", err)
	}
	var welcome guestv1.Welcome
	options := protodelim.UnmarshalOptions{MaxSize: maxHandshake}
	if err := options.UnmarshalFrom(bufio.NewReader(conn), &welcome); err != nil {
		return 0, fmt.Errorf("read welcome: %w", err)
	}
	if welcome.GetProtocol() == 0 {
		return 0, fmt.Errorf("%w: %s", ErrRefused, welcome.GetRefusal())
	}
	return welcome.GetProtocol(), nil
}
