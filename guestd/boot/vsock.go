// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

const (
	guestPort = 1024 // guestd serves here
	readyPort = 1025 // the host waits here
	cidAny    = 0xffffffff
	// receiveBuffer is how much the host may send before guestd reads, in bytes.
	receiveBuffer = 1 << 20
)

// Listen serves vsock port 1024 on any CID, so that the listener outlives a
// change of the CID. Only connections from the host come out of it.
func (m *Machine) Listen() (net.Listener, error) {
	l, err := vsock.ListenContextID(cidAny, guestPort, nil)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("listen on vsock: the kernel has no AF_VSOCK; is its module in %s? %w", moduleDir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on vsock: %w", err)
	}
	return hostOnly{l}, nil
}

// hostOnly closes connections that do not come from the host: over vsock
// loopback any user of the machine could ask guestd to act for it.
type hostOnly struct{ net.Listener }

func (l hostOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if addr, ok := conn.RemoteAddr().(*vsock.Addr); ok && addr.ContextID == vsock.Host {
			widen(conn)
			return conn, nil
		}
		_ = conn.Close() // a stranger's
	}
}

// widen gives a connection a larger buffer: the kernel tells the host of free space
// when a quarter is left of it, and each time costs an emulated CPU a packet. It is
// only a wish.
func widen(conn net.Conn) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for _, option := range []int{unix.SO_VM_SOCKETS_BUFFER_MAX_SIZE, unix.SO_VM_SOCKETS_BUFFER_SIZE} {
			_ = unix.SetsockoptUint64(int(fd), unix.AF_VSOCK, option, receiveBuffer)
		}
	})
}

// waitForDevice returns when the vsock device has given the machine its CID.
// The kernel announces devices by uevents; the CID is looked at after each.
func waitForDevice(ctx context.Context) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("open uevent socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return fmt.Errorf("bind uevent socket: %w", err)
	}
	// Reads return at least once a second, to look at ctx.
	wait := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return fmt.Errorf("limit uevent socket: %w", err)
	}
	buf := make([]byte, 8<<10)
	for {
		if cid, err := vsock.ContextID(); err == nil && cid != cidAny {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for the vsock device: %w", err)
		}
		_, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
		default:
			return fmt.Errorf("read uevents: %w", err)
		}
	}
}
