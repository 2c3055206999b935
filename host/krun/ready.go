// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lingerLimit is how long a closed stream waits for the guest to close too.
	lingerLimit = 5 * time.Second
	// maxReady bounds the streams that a guest has open to its host.
	maxReady = 16
)

// acceptReady gives each stream of the guest's to take, until l is closed. It
// returns when all of them have ended, which the end of vmCtx hurries.
func acceptReady(vmCtx context.Context, l *net.UnixListener, take func(net.Conn)) {
	var streams sync.WaitGroup
	defer streams.Wait()
	slots := make(chan struct{}, maxReady)
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return // closed; nothing else ends a listener for good
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		streams.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			defer context.AfterFunc(vmCtx, func() { _ = conn.Close() })()
			c := &lingering{Conn: conn, closed: make(chan struct{})}
			take(c) // may keep it
			select {
			case <-c.closed:
				c.linger()
			case <-vmCtx.Done():
			}
		})
	}
}

// lingering is a stream from the guest. libkrun drops what it has not delivered
// when the host closes, so Close only lets go: acceptReady closes when the guest
// has.
type lingering struct {
	net.Conn
	once   sync.Once
	let    atomic.Bool   // go by its user
	closed chan struct{} // no longer touched by its user
}

func (c *lingering) Close() error {
	c.once.Do(func() {
		c.let.Store(true)
		_ = c.SetDeadline(time.Unix(1, 0)) // ends reads and writes under way
		close(c.closed)                    // last: linger sets a deadline of its own
	})
	return nil
}

func (c *lingering) Read(p []byte) (int, error)  { return c.open(c.Conn.Read, p) }
func (c *lingering) Write(p []byte) (int, error) { return c.open(c.Conn.Write, p) }

// open makes the call unless the stream is closed, also by the time of an error.
func (c *lingering) open(call func([]byte) (int, error), p []byte) (int, error) {
	if c.isClosed() {
		return 0, net.ErrClosed
	}
	n, err := call(p)
	if err != nil && c.isClosed() {
		err = net.ErrClosed
	}
	return n, err
}

func (c *lingering) isClosed() bool { return c.let.Load() }

// linger reads what still comes, so that the machine does not wait for a reader,
// until the guest closes or the limit.
func (c *lingering) linger() {
	if c.SetReadDeadline(time.Now().Add(lingerLimit)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c.Conn) // the end is all that is wanted
}
