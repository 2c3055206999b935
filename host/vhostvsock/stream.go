// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

const (
	// maxStreams bounds the streams of a VM, and with recvWindow the memory
	// that its guest can make the host hold.
	maxStreams = 1024
	// recvWindow is the credit that a guest has on each stream, in bytes.
	recvWindow = 256 << 10
	// firstPort is where the host's ports of its own streams begin, far from
	// the ports that mean something.
	firstPort = 1 << 30

	hostEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
)

// streamKey names a stream: the CIDs are always the host's and the guest's.
type streamKey struct{ host, guest uint32 }

// state of the guest's end of a stream.
type state uint8

const (
	statConnecting state = iota // the guest has not answered the request
	statConnected
	statClosed // the guest has no part in it any more
)

// pending says which control packets a stream owes the guest. They are flags
// and not a queue, so that nothing piles up when the guest takes none.
type pending uint8

const (
	sendRequest pending = 1 << iota
	sendResponse
	sendReset
	sendCredit  // tell our credit
	askCredit   // ask for the guest's
	creditAsked // asked, and no answer yet
)

// stream joins a vsock connection of the guest and a Unix socket of the host.
// Each end is over on its own: the guest's in statClosed, the host's when the
// watch is closed.
type stream struct {
	key     streamKey
	state   state
	pending pending
	queued  bool // in session.ready
	dead    bool // both ends are over and it is counted no more

	watch    watch // the host's socket
	readable bool  // the host may have data or EOF for the guest
	hup      bool  // the host's end is closed both ways; there may be data left
	eof      bool  // all that the host sent has been read
	discard  bool  // the host reads no more: what the guest sends is dropped
	finSent  bool  // the host has been told that the guest sends no more

	// What either side has announced with SHUTDOWN: by the guest; due to the
	// guest; and told to it.
	guestShut, wantShut, sentShut uint32

	// Credit (virtio 1.2 §5.10.6.3), all counters modulo 2^32.
	sent      uint32 // bytes sent to the guest
	peerFwd   uint32 // of those, bytes its reader has taken
	peerAlloc uint32 // its buffer
	taken     uint32 // bytes of the guest that were handed to the host
	told      uint32 // taken, as the guest was last told

	out fifo // the guest's bytes that the host's socket did not take yet
}

// open adds a stream and takes fd over, also when it fails.
func (s *session) open(key streamKey, fd int, st state, owes pending) (*stream, error) {
	t := &stream{key: key, state: st, pending: owes}
	w, err := s.poll.add(fd, hostEvents, func(events uint32) error { return s.onHost(t, events) })
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch stream: %w", err)
	}
	t.watch = w
	s.streams[key] = t
	s.live++
	s.schedule(t)
	return t, nil
}

// onHost takes in what epoll says of the host's socket.
func (s *session) onHost(t *stream, events uint32) error {
	if events&unix.EPOLLOUT != 0 {
		if err := s.flush(t); err != nil {
			return err
		}
	}
	if !t.watch.open() {
		return nil
	}
	t.readable = true
	if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.hostHungUp(t)
	}
	s.schedule(t)
	return nil
}

// hostHungUp: nothing written will be read any more, though there may be data
// to read.
func (s *session) hostHungUp(t *stream) {
	t.hup = true
	switch t.state {
	case statClosed:
		s.closeHost(t)
	case statConnecting:
		// Someone who gives up before the guest has answered frees the
		// stream; one who left data behind still wants it delivered.
		if n, err := unix.IoctlGetInt(t.watch.fd, unix.TIOCINQ); err == nil && n > 0 {
			return
		}
		s.abort(t)
	case statConnected:
		s.hostStopsReading(t)
		if t.eof {
			s.hostDone(t)
		}
	}
}

// hostStopsReading drops what the host will never read. The guest is told, so
// that its writers fail instead of waiting for credit.
func (s *session) hostStopsReading(t *stream) {
	t.discard = true
	t.taken += uint32(t.out.len())
	t.out.clear()
	t.wantShut |= shutReceive
}

// hostDone: both directions are over for the host. Its socket is closed; the
// guest gets SHUTDOWN for both and answers with RST once it has read all. The
// device sends no RST here: that could cost the guest unread data.
func (s *session) hostDone(t *stream) {
	t.wantShut = shutBoth
	s.hostStopsReading(t)
	s.closeHost(t)
}

// hostEOF: the host has sent all that it will send, and it has been passed on.
func (s *session) hostEOF(t *stream) {
	t.eof = true
	t.wantShut |= shutSend
	if t.hup || t.finSent {
		s.hostDone(t)
	}
}

// guestShutdown takes in a SHUTDOWN packet.
func (s *session) guestShutdown(t *stream, flags uint32) {
	t.guestShut |= flags & shutBoth
	if t.guestShut == shutBoth {
		// The guest wants nothing more, so RST costs it nothing; its
		// socket waits for it.
		s.abort(t)
		return
	}
	if t.guestShut&shutReceive != 0 && !t.eof && t.watch.open() {
		_ = unix.Shutdown(t.watch.fd, unix.SHUT_RD)
		t.eof = true
	}
	s.finish(t)
}

// finish passes the guest's end of data on to the host, after the data.
func (s *session) finish(t *stream) {
	if t.guestShut&shutSend == 0 || t.finSent || t.out.len() > 0 || !t.watch.open() {
		return
	}
	t.finSent = true
	_ = unix.Shutdown(t.watch.fd, unix.SHUT_WR)
	if t.eof {
		s.hostDone(t)
	}
}

// offend ends a stream on which the guest broke the protocol.
func (s *session) offend(t *stream, what string) {
	s.log.Debug("reset vsock stream", slog.String("reason", what),
		slog.Uint64("host_port", uint64(t.key.host)), slog.Uint64("guest_port", uint64(t.key.guest)))
	s.abort(t)
}

// abort ends the guest's part of a stream with RST.
func (s *session) abort(t *stream) {
	unheard := t.pending&sendRequest != 0 // the guest does not know of it
	t.pending = sendReset
	if unheard {
		t.pending = 0
	}
	t.state = statClosed
	if t.pending == 0 {
		delete(s.streams, t.key)
	}
	s.schedule(t)
	s.releaseHost(t)
}

// drop ends the guest's part of a stream without a word: the guest has ended
// it itself, or has been reset.
func (s *session) drop(t *stream) {
	t.pending = 0
	t.state = statClosed
	delete(s.streams, t.key)
	s.releaseHost(t)
	s.settle(t)
}

// releaseHost closes the host's socket as soon as it has taken what the guest
// sent before it left.
func (s *session) releaseHost(t *stream) {
	if t.out.len() == 0 || !t.watch.open() {
		s.closeHost(t)
	}
}

func (s *session) closeHost(t *stream) {
	s.poll.close(&t.watch)
	t.out.clear()
	t.readable = false
	s.settle(t)
}

// settle counts a stream off when neither end is left.
func (s *session) settle(t *stream) {
	if !t.dead && t.state == statClosed && t.pending == 0 && !t.watch.open() {
		t.dead = true
		s.live--
	}
}

// resetStreams ends all streams because the guest has lost them.
func (s *session) resetStreams() {
	s.log.Debug("vsock streams dropped", slog.Int("streams", len(s.streams)))
	for _, t := range s.streams {
		s.drop(t)
	}
	s.ready, s.replies, s.up = nil, nil, false
}
