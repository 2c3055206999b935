// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

const (
	// packetBudget bounds the packets that are moved each way in one turn.
	packetBudget = 128
	// maxReplies bounds the resets that wait for rx buffers. A guest that
	// asks for more and provides no buffers is not read until it does.
	maxReplies = 128
)

// pumpTx takes packets of the guest.
func (s *session) pumpTx() error {
	r := &s.rings[txQueue]
	q := &r.queue
	moved := false
	for range packetBudget {
		n, err := q.available()
		if err != nil {
			return err
		}
		if n == 0 || len(s.replies) >= maxReplies {
			break
		}
		q.suppress(true)
		head, segs, size, err := q.chain(s.mem, 0, false, s.scratch.segs[:0])
		if err != nil {
			return err
		}
		s.scratch.segs = segs
		if err := s.packet(segs, size); err != nil {
			return err
		}
		q.complete(head, 0)
		q.publish()
		moved = true
	}
	if moved && q.wantsInterrupt() {
		r.interrupt()
	}
	return nil
}

// txIdle prepares the ring for sleep and tells whether there is more to do. A
// full reply queue is no reason to stay awake: rx buffers empty it.
func (s *session) txIdle() (more bool, err error) {
	if len(s.replies) >= maxReplies {
		return false, nil
	}
	q := &s.rings[txQueue].queue
	q.suppress(false)
	n, err := q.available()
	return n > 0, err
}

// packet handles one packet of size bytes in segs, which it may overwrite (not
// what they point to).
func (s *session) packet(segs [][]byte, size uint64) error {
	var raw [headerSize]byte
	n, segs := gather(raw[:], segs)
	if n < headerSize {
		return fmt.Errorf("%w: packet of %d bytes", ErrMalformedRing, n)
	}
	h := parseHeader(&raw)
	if uint64(h.length) > size-headerSize {
		return fmt.Errorf("%w: packet claims %d bytes in a chain of %d", ErrMalformedRing, h.length, size)
	}
	key := streamKey{host: h.dstPort, guest: h.srcPort}
	t := s.streams[key]
	ours := h.srcCID == s.cfg.GuestCID && h.dstCID == hostCID && h.typ == typeStream
	switch {
	case !ours || t == nil && h.op != opRequest:
		if h.op != opReset {
			s.replies = append(s.replies, h.reset())
		}
		return nil
	case t == nil:
		s.dialled(key, &h)
		return nil
	case t.state == statClosed:
		// Its reset is on the way.
		if h.op == opReset {
			s.drop(t)
		}
		return nil
	}
	t.acknowledge(&h)
	err := s.streamPacket(t, &h, segs)
	s.schedule(t)
	return err
}

// streamPacket handles a packet of a stream that both sides know.
func (s *session) streamPacket(t *stream, h *header, segs [][]byte) error {
	switch {
	case h.op == opReset:
		s.drop(t)
	case t.state == statConnecting && h.op == opResponse:
		t.state = statConnected
		if t.hup {
			s.hostHungUp(t)
		}
	case t.state == statConnecting:
		s.offend(t, "packet before the response")
	case h.op == opData:
		return s.deliver(t, trim(segs, int(h.length)), int(h.length))
	case h.op == opShutdown:
		s.guestShutdown(t, h.flags)
	case h.op == opCreditRequest:
		t.pending |= sendCredit
	case h.op == opCreditUpdate:
	default:
		s.offend(t, "unexpected operation")
	}
	return nil
}

// deliver hands the guest's data to the host's socket, straight from guest
// memory; what the socket does not take is kept, which the credit bounds.
func (s *session) deliver(t *stream, segs [][]byte, n int) error {
	if n > recvWindow-t.out.len() {
		s.offend(t, "credit exceeded")
		return nil
	}
	if t.guestShut&shutSend != 0 {
		s.offend(t, "data after shutdown")
		return nil
	}
	if n == 0 {
		return nil
	}
	if t.discard || !t.watch.open() {
		s.take(t, n)
		return nil
	}
	written := 0
	if t.out.len() == 0 {
		w, err := unix.Writev(t.watch.fd, segs)
		switch {
		case err == nil:
			written = w
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EFAULT):
			return ErrMemoryFault
		default:
			s.hostStopsReading(t)
			s.take(t, n)
			return nil
		}
		if written < n {
			if err := s.poll.modify(t.watch, hostEvents|unix.EPOLLOUT); err != nil {
				return err
			}
		}
	}
	s.take(t, written)
	t.out.put(skip(segs, written))
	return nil
}

// flush passes kept data on.
func (s *session) flush(t *stream) error {
	if t.out.len() == 0 || !t.watch.open() {
		return nil
	}
	for t.out.len() > 0 {
		s.scratch.iov = t.out.views(s.scratch.iov[:0])
		n, err := unix.Writev(t.watch.fd, s.scratch.iov)
		switch {
		case err == nil:
			t.out.drop(n)
			s.take(t, n)
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return nil
		default:
			s.log.Debug("host closed a vsock stream with data under way", slog.Any("error", err))
			s.hostStopsReading(t)
		}
	}
	if t.state == statClosed {
		s.closeHost(t)
		return nil
	}
	s.finish(t)
	if !t.watch.open() {
		return nil
	}
	return s.poll.modify(t.watch, hostEvents)
}

// take counts n bytes of the guest as delivered. The guest is told when half of
// its credit has come back; most often a packet that goes to it anyway says so.
func (s *session) take(t *stream, n int) {
	t.taken += uint32(n)
	if t.taken-t.told >= recvWindow/2 {
		t.pending |= sendCredit
	}
}
