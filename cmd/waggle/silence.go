// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"sync"
)

// silence is the listener of a server that no address leads to.
type silence struct {
	closed chan struct{}
	once   sync.Once
}

func newSilence() *silence { return &silence{closed: make(chan struct{})} }

// Accept waits for Close.
func (s *silence) Accept() (net.Conn, error) {
	<-s.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (s *silence) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (*silence) Addr() net.Addr { return &net.UnixAddr{} }
