// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func waitFor[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing happened")
		return v
	}
}

func readFull(c net.Conn, b []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	return io.ReadFull(c, b)
}

// stack is a small vsock implementation over the driver's rings, honest as
// Linux is: the real thing that the device talks to in these tests.
type stack struct {
	g *guest

	mu      sync.Mutex
	cond    *sync.Cond
	free    []int // tx slots
	conns   map[streamKey]*guestConn
	accept  map[uint32]func(*guestConn)
	resets  int // received
	stopped bool
	window  uint32 // buf_alloc of new streams
	wg      sync.WaitGroup
}

type guestConn struct {
	s       *stack
	key     streamKey
	in      []byte
	eof     bool // peer sends no more
	refused bool
	peerRcv bool // peer receives no more
	over    bool // RST came
	up      bool

	window, fwd, told   uint32
	sent, peerFwd, peer uint32
}

// newStack drives a started guest until the test ends.
func newStack(g *guest, accept map[uint32]func(*guestConn)) *stack {
	s := &stack{g: g, conns: make(map[streamKey]*guestConn), accept: accept, window: 256 << 10}
	s.cond = sync.NewCond(&s.mu)
	for i := range txSlots {
		s.free = append(s.free, i)
	}
	var irq sync.WaitGroup
	// A handler each: the rx one may wait for tx slots, which the other frees.
	serve := func(r *driverRing, handle func()) {
		irq.Go(func() {
			b := make([]byte, 8)
			for {
				handle()
				if _, err := r.call.Read(b); err != nil {
					return
				}
			}
		})
	}
	serve(&g.rx, s.received)
	serve(&g.tx, s.transmitted)
	g.t.Cleanup(func() {
		s.mu.Lock()
		s.stopped = true
		s.cond.Broadcast()
		s.mu.Unlock()
		_ = g.rx.call.SetReadDeadline(time.Now())
		_ = g.tx.call.SetReadDeadline(time.Now())
		irq.Wait()
		s.wg.Wait()
	})
	return s
}

func (s *stack) transmitted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		head, _, ok := s.g.used(&s.g.tx)
		if !ok {
			break
		}
		s.free = append(s.free, int(head/2))
	}
	s.cond.Broadcast()
}

func (s *stack) received() {
	s.mu.Lock()
	defer s.mu.Unlock()
	refill := false
	for {
		head, h, data, ok := s.g.receive()
		if !ok {
			break
		}
		s.packet(h, data)
		s.g.giveBuffer(head)
		refill = true
	}
	if refill {
		s.g.notify(&s.g.rx)
	}
	s.cond.Broadcast()
}

// packet handles a packet of the device; s.mu is held.
func (s *stack) packet(h header, data []byte) {
	key := streamKey{host: h.srcPort, guest: h.dstPort}
	c := s.conns[key]
	if c == nil {
		switch {
		case h.op == opReset:
			s.resets++
		case h.op == opRequest && s.accept[h.dstPort] != nil:
			c = &guestConn{s: s, key: key, up: true, window: s.window, peer: h.bufAlloc}
			s.conns[key] = c
			s.send(c, opResponse, 0, nil)
			f := s.accept[h.dstPort]
			s.wg.Go(func() { f(c) })
		default:
			r := h.reset()
			s.post(r, nil)
		}
		return
	}
	c.peer, c.peerFwd = h.bufAlloc, h.fwdCnt
	switch h.op {
	case opResponse:
		c.up = true
	case opReset:
		s.resets++
		c.refused = !c.up
		c.over, c.eof, c.peerRcv = true, true, true
		delete(s.conns, key)
	case opShutdown:
		c.eof = c.eof || h.flags&shutSend != 0
		c.peerRcv = c.peerRcv || h.flags&shutReceive != 0
		if c.eof && c.peerRcv && len(c.in) == 0 {
			s.finish(c)
		}
	case opData:
		c.in = append(c.in, data...)
	case opCreditRequest:
		s.send(c, opCreditUpdate, 0, nil)
	}
}

// finish answers a full shutdown once all is read, as Linux does.
func (s *stack) finish(c *guestConn) {
	if !c.over {
		c.over = true
		delete(s.conns, c.key)
		s.send(c, opReset, 0, nil)
	}
}

// send posts a packet of c; s.mu is held and may be released meanwhile.
func (s *stack) send(c *guestConn, op uint16, flags uint32, data []byte) {
	c.told = c.fwd
	s.post(header{
		srcCID: testCID, dstCID: hostCID, srcPort: c.key.guest, dstPort: c.key.host,
		length: uint32(len(data)), typ: typeStream, op: op, flags: flags,
		bufAlloc: c.window, fwdCnt: c.fwd,
	}, data)
}

func (s *stack) post(h header, data []byte) {
	for len(s.free) == 0 && !s.stopped {
		s.cond.Wait()
	}
	if s.stopped {
		return
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.g.put(slot, h, data)
}

// dial opens a stream to a host port.
func (s *stack) dial(host, guest uint32) (*guestConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &guestConn{s: s, key: streamKey{host: host, guest: guest}, window: s.window}
	s.conns[c.key] = c
	s.send(c, opRequest, 0, nil)
	for !c.up && !c.refused && !s.stopped {
		s.cond.Wait()
	}
	if c.refused {
		return nil, syscall.ECONNRESET
	}
	return c, nil
}

func (c *guestConn) Read(b []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for len(c.in) == 0 && !c.eof && !c.s.stopped {
		c.s.cond.Wait()
	}
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.in)
	c.in = c.in[n:]
	c.fwd += uint32(n)
	if c.fwd-c.told > c.window/2 && !c.over {
		c.s.send(c, opCreditUpdate, 0, nil)
	}
	if c.eof && c.peerRcv && len(c.in) == 0 {
		c.s.finish(c)
	}
	return n, nil
}

func (c *guestConn) Write(b []byte) (total int, err error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for len(b) > 0 {
		room := int(c.peer) - int(c.sent-c.peerFwd)
		switch {
		case c.peerRcv || c.over:
			return total, syscall.EPIPE
		case c.s.stopped:
			return total, errors.New("stopped")
		case room <= 0:
			c.s.cond.Wait()
			continue
		}
		n := min(room, len(b), txBufSize)
		c.sent += uint32(n)
		c.s.send(c, opData, 0, b[:n])
		total += n
		b = b[n:]
	}
	return total, nil
}

func (c *guestConn) shutdown(flags uint32) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.over {
		c.s.send(c, opShutdown, flags, nil)
	}
}

func (c *guestConn) CloseWrite() { c.shutdown(shutSend) }

// Close waits for the device's RST, as a guest's kernel does.
func (c *guestConn) Close() {
	c.shutdown(shutBoth)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for !c.over && !c.s.stopped {
		c.s.cond.Wait()
	}
}

func (s *stack) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
