// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// vring is a virtqueue and what the front-end has said about it.
type vring struct {
	queue   queue
	num     uint32
	addr    vringAddr
	enabled bool
	running bool
	kick    watch // the guest's notifications
	call    int   // eventfd for interrupts, or -1
	// stopped is where the ring stood when it last ran.
	stopped ringPosition
}

type ringPosition struct {
	addr vringAddr
	num  uint32
	next uint16
}

// setKick starts the ring with a descriptor and leaves it to polling without
// one, which no front-end of this device asks for.
func (s *session) setKick(index, fd int) error {
	r := &s.rings[index]
	s.poll.close(&r.kick)
	if fd < 0 {
		return fmt.Errorf("%w: ring %d has no kick descriptor", ErrFrontend, index)
	}
	// Edge-triggered, and never read: each kick is an edge, also while the
	// counter is above zero.
	w, err := s.poll.add(fd, unix.EPOLLIN|unix.EPOLLET, func(uint32) error { return nil })
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("watch kick descriptor: %w", err)
	}
	r.kick = w
	return s.updateRing(index)
}

// setCall takes fd over. It is interrupted at once: an interrupt may have gone
// to the descriptor that this one replaces.
func (r *vring) setCall(fd int) {
	if r.call >= 0 {
		_ = unix.Close(r.call)
	}
	r.call = fd
	if fd >= 0 {
		// A write must never block the loop.
		_ = unix.SetNonblock(fd, true)
		if r.running {
			r.interrupt()
		}
	}
}

// interrupt signals the guest. A full eventfd counter has signalled already.
func (r *vring) interrupt() {
	if r.call >= 0 {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(r.call, one[:])
	}
}

// updateRing starts or pauses the ring as kick and enable say. Rings start
// enabled only for a front-end that knows no protocol features.
func (s *session) updateRing(index int) error {
	r := &s.rings[index]
	run := r.kick.open() && (r.enabled || s.features&featProtocol == 0)
	if run == r.running {
		return nil
	}
	if !run {
		s.pauseRing(r)
		return nil
	}
	q, err := newQueue(s.mem, r.num, r.addr, r.queue.next)
	if err != nil {
		return fmt.Errorf("start ring %d: %w", index, err)
	}
	// A pause and a reset of the guest look the same until here: after a
	// pause the ring goes on where it stood; a new driver begins anew, and
	// nothing of the old one's streams is left in it.
	if s.up && index != eventQueue && r.stopped != (ringPosition{addr: r.addr, num: r.num, next: q.next}) {
		s.log.Debug("guest has reset its vsock device")
		s.resetStreams()
	}
	// Kicks of the rx ring say only that buffers came; they are asked for
	// when there is something to put there.
	q.quiet = index != txQueue
	q.publish()
	r.queue, r.running = q, true
	if s.rings[rxQueue].running && s.rings[txQueue].running {
		s.up = true
	}
	return nil
}

func (s *session) pauseRing(r *vring) {
	if r.running {
		r.running = false
		r.stopped = ringPosition{addr: r.addr, num: r.num, next: r.queue.next}
	}
}

// stopRing serves GET_VRING_BASE, which comes on a pause (QMP stop) as well as
// on a reset: streams are kept.
func (s *session) stopRing(index int) (next uint16) {
	r := &s.rings[index]
	s.pauseRing(r)
	s.poll.close(&r.kick)
	return r.queue.next
}

// remapRing lays a running ring over changed memory or addresses.
func (s *session) remapRing(index int) error {
	r := &s.rings[index]
	if !r.running {
		return nil
	}
	q, err := newQueue(s.mem, r.num, r.addr, r.queue.next)
	if err != nil {
		return fmt.Errorf("remap ring %d: %w", index, err)
	}
	q.quiet = r.queue.quiet
	r.queue = q
	return nil
}
