// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// messageBudget bounds the messages that are handled in one turn of the loop.
const messageBudget = 16

// messageReader assembles messages from the front-end's socket, which does not
// block: a message may arrive in pieces.
type messageReader struct {
	fd   int
	buf  [messageHeaderSize + maxPayload]byte
	have int
	fds  []int
}

// next returns nil without an error when no whole message is there yet.
func (r *messageReader) next() (*message, error) {
	for {
		want := messageHeaderSize
		var m message
		if r.have >= messageHeaderSize {
			var size int
			var err error
			if m, size, err = parseMessageHeader(r.buf[:messageHeaderSize]); err != nil {
				return nil, err
			}
			want += size
		}
		if r.have >= messageHeaderSize && r.have == want {
			m.payload = append([]byte(nil), r.buf[messageHeaderSize:want]...)
			m.fds, r.fds, r.have = r.fds, nil, 0
			return &m, nil
		}
		if err := r.fill(want); errors.Is(err, unix.EAGAIN) {
			return nil, nil
		} else if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}

func (r *messageReader) fill(want int) error {
	oob := make([]byte, unix.CmsgSpace(4*maxMessageFDs))
	n, oobn, flags, _, err := unix.Recvmsg(r.fd, r.buf[r.have:want], oob, unix.MSG_CMSG_CLOEXEC)
	if errors.Is(err, unix.ECONNRESET) {
		return ErrFrontendGone
	}
	if err != nil {
		return fmt.Errorf("read vhost-user message: %w", err)
	}
	// The descriptors are ours from here on, whatever else is wrong.
	if cmsgs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
		for i := range cmsgs {
			if fds, err := unix.ParseUnixRights(&cmsgs[i]); err == nil {
				r.fds = append(r.fds, fds...)
			}
		}
	}
	if flags&unix.MSG_CTRUNC != 0 || len(r.fds) > maxMessageFDs {
		return fmt.Errorf("%w: more than %d descriptors in a message", ErrFrontend, maxMessageFDs)
	}
	if n == 0 {
		return ErrFrontendGone
	}
	r.have += n
	return nil
}

// onFrontend handles what the front-end has sent.
func (s *session) onFrontend(uint32) error {
	for range messageBudget {
		m, err := s.front.next()
		if err != nil || m == nil {
			return err
		}
		err = s.handle(m)
		closeAll(m.fds)
		if err != nil {
			return fmt.Errorf("handle vhost-user request %d: %w", m.request, err)
		}
	}
	return nil
}

// handle answers one message. A request without an answer of its own is
// acknowledged when the front-end asked for it; a failed one too, because QEMU
// waits for the answer, and the error then ends the session.
func (s *session) handle(m *message) error {
	reply, answered, err := s.query(m)
	if answered && err == nil {
		return s.reply(m.request, reply)
	}
	if !answered {
		err = s.configure(m)
	}
	if m.flags&messageNeedReply != 0 && s.protoFeatures&protoReplyAck != 0 {
		var failed uint64
		if err != nil {
			failed = 1
		}
		if ackErr := s.reply(m.request, binary.LittleEndian.AppendUint64(nil, failed)); err == nil {
			err = ackErr
		}
	}
	return err
}

// query handles the requests that have an answer of their own.
func (s *session) query(m *message) (reply []byte, answered bool, err error) {
	u64 := func(v uint64) ([]byte, bool, error) { return binary.LittleEndian.AppendUint64(nil, v), true, nil }
	switch m.request {
	case reqGetFeatures:
		return u64(features)
	case reqGetProtocolFeatures:
		return u64(protoFeatures)
	case reqGetQueueNum:
		return u64(queueCount)
	case reqGetConfig:
		reply, err = m.configReply(s.cfg.GuestCID)
		return reply, true, err
	case reqGetVringBase:
		index, _, err := m.vringState()
		if err != nil {
			return nil, true, err
		}
		next := s.stopRing(index)
		reply = binary.LittleEndian.AppendUint32(nil, uint32(index))
		return binary.LittleEndian.AppendUint32(reply, uint32(next)), true, nil
	}
	return nil, false, nil
}

// configure handles the requests that only change state.
func (s *session) configure(m *message) error {
	switch m.request {
	case reqSetOwner:
		return nil
	case reqSetFeatures, reqSetProtocolFeatures:
		return s.setFeatures(m)
	case reqSetMemTable:
		return s.setMemTable(m)
	case reqSetVringNum, reqSetVringBase, reqSetVringEnable:
		return s.setVringState(m)
	case reqSetVringAddr:
		index, addr, err := m.vringAddr()
		if err != nil {
			return err
		}
		s.rings[index].addr = addr
		return s.remapRing(index)
	case reqSetVringKick, reqSetVringCall, reqSetVringErr:
		return s.setVringFD(m)
	case reqResetOwner, reqResetDevice:
		for i := range s.rings {
			s.stopRing(i)
			s.rings[i].enabled = false
		}
		s.resetStreams()
		return nil
	}
	return fmt.Errorf("%w: unknown request", ErrFrontend)
}

func (s *session) setFeatures(m *message) error {
	v, err := m.u64()
	if err != nil {
		return err
	}
	offered, dst := uint64(features), &s.features
	if m.request == reqSetProtocolFeatures {
		offered, dst = protoFeatures, &s.protoFeatures
	}
	if v&^offered != 0 {
		return fmt.Errorf("%w: features %#x were not offered", ErrFrontend, v&^offered)
	}
	*dst = v
	return nil
}

// setMemTable replaces the guest's memory. Rings that run are laid over the new
// mappings, which happens when memory is added to a running guest.
func (s *session) setMemTable(m *message) error {
	table, err := m.memTable()
	if err != nil {
		return err
	}
	fds := m.fds
	m.fds = nil
	mem, err := mapMemory(table, fds)
	if err != nil {
		return err
	}
	s.mem.unmap()
	s.mem = mem
	for i := range s.rings {
		if err := s.remapRing(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) setVringState(m *message) error {
	index, num, err := m.vringState()
	if err != nil {
		return err
	}
	r := &s.rings[index]
	switch {
	case m.request == reqSetVringEnable:
		r.enabled = num != 0
		return s.updateRing(index)
	case r.running:
		return fmt.Errorf("%w: ring %d is running", ErrFrontend, index)
	case m.request == reqSetVringNum:
		r.num = num
	default:
		r.queue.next = uint16(num)
	}
	return nil
}

func (s *session) setVringFD(m *message) error {
	index, fd, err := m.vringFD()
	if err != nil {
		return err
	}
	r := &s.rings[index]
	switch m.request {
	case reqSetVringKick:
		return s.setKick(index, fd)
	case reqSetVringCall:
		r.setCall(fd)
	default:
		// The error eventfd is never used: Run returns the error instead.
		closeAll([]int{fd})
	}
	return nil
}

// reply is small, and the front-end waits for it: a socket that takes no more
// belongs to a front-end that has stopped reading.
func (s *session) reply(request uint32, payload []byte) error {
	b := encodeReply(request, payload)
	if n, err := unix.Write(s.front.fd, b); err != nil {
		return fmt.Errorf("answer vhost-user request %d: %w", request, err)
	} else if n != len(b) {
		return fmt.Errorf("%w: it does not read its replies", ErrFrontend)
	}
	return nil
}
