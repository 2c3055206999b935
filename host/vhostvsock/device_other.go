// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package vhostvsock

import (
	"context"
	"errors"
	"net"
)

// Run needs Linux (epoll, eventfd, memfd seals): elsewhere it closes what it
// was given and fails.
func (d *Device) Run(_ context.Context, conn *net.UnixConn) error {
	for _, l := range d.cfg.Listeners {
		_ = l.Close()
	}
	_ = conn.Close()
	return errors.ErrUnsupported
}
