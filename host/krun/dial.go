// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const (
	// dialLimit bounds one connection to the VMM.
	dialLimit = 5 * time.Second
	// dialRetry is the pause after a full queue: libkrun's has room for five.
	dialRetry = 5 * time.Millisecond
)

var errNotSocket = errors.New("the VMM has put something else in its socket's place")

// dial connects to the VMM's socket, waiting while its queue is full.
func (d *directory) dial(ctx context.Context) (net.Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	retry := time.NewTicker(dialRetry)
	defer retry.Stop()
	for {
		conn, err := d.dialOnce(dialCtx)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-dialCtx.Done():
			return nil, fmt.Errorf("the VMM does not accept: %w", err)
		case <-retry.C:
		}
	}
}
