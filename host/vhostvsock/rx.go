// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// maxPacket is the most data in one packet, in bytes; Linux refuses more.
	maxPacket = 64 << 10
	// maxBatch is the most data that is read from a host socket at once,
	// into as many rx buffers as it takes: Linux guests give 4 KiB each.
	maxBatch = 64 << 10
)

// rxChain is an rx buffer that is about to be filled: its segments are
// scratch.segs[from:to], and it has room for data besides the header.
type rxChain struct {
	head     uint16
	from, to int
	room     int
}

// schedule puts a stream that has something for the guest in line.
func (s *session) schedule(t *stream) {
	if !t.queued && t.next() != 0 {
		t.queued = true
		s.ready = append(s.ready, t)
	}
}

// next is the operation that the stream wants to send to the guest, 0 for none.
func (t *stream) next() uint16 {
	switch {
	case t.pending&sendReset != 0:
		return opReset
	case t.state == statClosed:
		return 0
	case t.pending&sendRequest != 0:
		return opRequest
	case t.state == statConnecting:
		return 0
	case t.pending&sendResponse != 0:
		return opResponse
	case t.wantShut&^t.sentShut != 0:
		return opShutdown
	case t.readable && !t.eof && t.room() > 0:
		return opData
	case t.pending&sendCredit != 0:
		return opCreditUpdate
	case t.pending&askCredit != 0:
		return opCreditRequest
	}
	return 0
}

// pumpRx fills the guest's rx buffers, one packet or batch per stream in turn.
// A stream without credit is not in line, and one whose turn ends goes to the
// end of it.
func (s *session) pumpRx() error {
	r := &s.rings[rxQueue]
	q := &r.queue
	start := q.next
	for range packetBudget {
		if !s.owes() {
			break
		}
		avail, err := q.available()
		if err != nil {
			return err
		}
		if avail == 0 {
			break
		}
		q.suppress(true)
		if err := s.serve(avail); err != nil {
			return err
		}
		q.publish()
	}
	if q.next != start && q.wantsInterrupt() {
		r.interrupt()
	}
	return nil
}

func (s *session) owes() bool { return len(s.replies) > 0 || len(s.ready) > 0 }

// rxIdle prepares the ring for sleep and tells whether there is more to do.
// The guest is asked to kick for new buffers only when they are missing.
func (s *session) rxIdle() (more bool, err error) {
	if !s.owes() {
		return false, nil
	}
	q := &s.rings[rxQueue].queue
	q.suppress(false)
	n, err := q.available()
	return n > 0, err
}

// serve sends one reply, or what the first stream in line wants to send.
func (s *session) serve(avail int) error {
	if len(s.replies) > 0 {
		h := s.replies[0]
		s.replies = s.replies[1:]
		return s.emit(h)
	}
	t := s.ready[0]
	s.ready = s.ready[1:]
	t.queued = false
	var err error
	switch op := t.next(); op {
	case 0:
	case opData:
		err = s.forward(t, avail)
	default:
		err = s.control(t, op)
	}
	s.schedule(t)
	return err
}

// control sends a packet without data.
func (s *session) control(t *stream, op uint16) error {
	h := s.header(t, op)
	switch op {
	case opReset:
		t.pending = 0
		delete(s.streams, t.key)
		s.settle(t)
	case opRequest:
		t.pending &^= sendRequest
	case opResponse:
		t.pending &^= sendResponse
	case opShutdown:
		h.flags = t.wantShut
		t.sentShut = t.wantShut
	case opCreditRequest:
		t.pending = t.pending&^askCredit | creditAsked
	}
	return s.emit(h)
}

// header is a packet header of a stream. Each one tells our credit.
func (s *session) header(t *stream, op uint16) header {
	t.told = t.taken
	t.pending &^= sendCredit
	return header{
		srcCID: hostCID, dstCID: s.cfg.GuestCID,
		srcPort: t.key.host, dstPort: t.key.guest,
		typ: typeStream, op: op,
		bufAlloc: recvWindow, fwdCnt: t.taken,
	}
}

// emit puts a packet without data into the next rx buffer.
func (s *session) emit(h header) error {
	q := &s.rings[rxQueue].queue
	head, segs, size, err := q.chain(s.mem, 0, true, s.scratch.segs[:0])
	if err != nil {
		return err
	}
	s.scratch.segs = segs
	if size < headerSize {
		return fmt.Errorf("%w: rx buffer of %d bytes", ErrMalformedRing, size)
	}
	raw := h.encode()
	scatter(segs, raw[:])
	q.complete(head, headerSize)
	return nil
}

// forward reads from the host's socket straight into rx buffers, as much as
// the guest's credit allows.
func (s *session) forward(t *stream, avail int) error {
	if err := s.collect(int(min(t.room(), maxBatch)), avail); err != nil {
		return err
	}
	n, err := unix.Readv(t.watch.fd, s.scratch.iov)
	switch {
	case err == nil && n > 0:
		s.fill(t, n)
	case err == nil:
		s.hostEOF(t)
	case errors.Is(err, unix.EAGAIN):
		t.readable = false
	case errors.Is(err, unix.EINTR):
	case errors.Is(err, unix.EFAULT):
		return ErrMemoryFault
	default:
		// Reset: the host closed with data of the guest unread.
		t.hup = true
		s.hostEOF(t)
	}
	return nil
}

// collect looks at rx buffers for up to room bytes of data, without taking
// them: scratch.chains are the buffers, scratch.iov is where data goes.
func (s *session) collect(room, avail int) error {
	sc := &s.scratch
	sc.chains, sc.segs, sc.iov = sc.chains[:0], sc.segs[:0], sc.iov[:0]
	for k := 0; k < avail && room > 0; k++ {
		c := rxChain{from: len(sc.segs)}
		var size uint64
		var err error
		c.head, sc.segs, size, err = s.rings[rxQueue].queue.chain(s.mem, k, true, sc.segs)
		if err != nil {
			return err
		}
		if size <= headerSize {
			return fmt.Errorf("%w: rx buffer of %d bytes", ErrMalformedRing, size)
		}
		c.to = len(sc.segs)
		if len(sc.iov)+c.to-c.from > maxQueueSize {
			break // more than readv takes
		}
		c.room = int(min(size-headerSize, maxPacket, uint64(room)))
		room -= c.room
		sc.chains = append(sc.chains, c)
		sc.iov = window(sc.iov, sc.segs[c.from:c.to], headerSize, c.room)
	}
	return nil
}

// fill gives the collected buffers with n bytes in them to the guest, each
// with a header of its own. The rest stay the guest's.
func (s *session) fill(t *stream, n int) {
	q := &s.rings[rxQueue].queue
	for _, c := range s.scratch.chains {
		if n == 0 {
			break
		}
		part := min(n, c.room)
		n -= part
		t.sent += uint32(part)
		h := s.header(t, opData)
		h.length = uint32(part)
		raw := h.encode()
		scatter(s.scratch.segs[c.from:c.to], raw[:])
		q.complete(c.head, headerSize+part)
	}
	if t.room() == 0 && t.pending&creditAsked == 0 {
		t.pending |= askCredit
	}
}

// room is the guest's credit: how many bytes it can take now.
func (t *stream) room() uint32 {
	inFlight := t.sent - t.peerFwd
	if inFlight >= t.peerAlloc {
		return 0
	}
	return t.peerAlloc - inFlight
}

// acknowledge takes in the credit that every packet of the guest carries. A
// count that lies outside of what is in flight is ignored: it is either older
// than one seen before, which a guest with several CPUs may send, or a claim to
// have read what was never sent, which gains it nothing.
func (t *stream) acknowledge(h *header) {
	t.peerAlloc = h.bufAlloc
	if h.fwdCnt-t.peerFwd <= t.sent-t.peerFwd {
		t.peerFwd = h.fwdCnt
	}
	if t.room() > 0 {
		t.pending &^= askCredit | creditAsked
	}
}
