// SPDX-License-Identifier: Apache-2.0

package vhostvsock

import (
	"encoding/binary"
	"fmt"
)

// Requests of the vhost-user protocol that a vsock front-end sends.
const (
	reqGetFeatures         = 1
	reqSetFeatures         = 2
	reqSetOwner            = 3
	reqResetOwner          = 4
	reqSetMemTable         = 5
	reqSetVringNum         = 8
	reqSetVringAddr        = 9
	reqSetVringBase        = 10
	reqGetVringBase        = 11
	reqSetVringKick        = 12
	reqSetVringCall        = 13
	reqSetVringErr         = 14
	reqGetProtocolFeatures = 15
	reqSetProtocolFeatures = 16
	reqGetQueueNum         = 17
	reqSetVringEnable      = 18
	reqGetConfig           = 24
	reqResetDevice         = 34
)

// Features. INDIRECT_DESC (28) and EVENT_IDX (29) are left out on purpose.
const (
	featProtocol = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES
	featVersion1 = 1 << 32 // VIRTIO_F_VERSION_1
	features     = featProtocol | featVersion1

	protoMQ          = 1 << 0
	protoReplyAck    = 1 << 3
	protoConfig      = 1 << 9
	protoResetDevice = 1 << 13
	protoFeatures    = protoMQ | protoReplyAck | protoConfig | protoResetDevice
)

// Message layout: request, flags and size, 32 bits each, then the payload.
const (
	messageHeaderSize = 12
	maxPayload        = 512 // the largest used here is a table of 8 regions, 264 bytes
	maxRegions        = 8   // without CONFIGURE_MEM_SLOTS
	maxMessageFDs     = maxRegions

	messageVersion     = 1
	messageVersionMask = 3
	messageReply       = 1 << 2
	messageNeedReply   = 1 << 3

	vringIndexMask = 0xff
	vringNoFD      = 1 << 8
)

// Queues of a vsock device, virtio 1.2 §5.10.2. QEMU keeps the event queue to
// itself; a front-end that hands it over is served, but there is no event to
// send.
const (
	rxQueue = iota // host to guest
	txQueue        // guest to host
	eventQueue
	queueCount
)

// message is one message of the front-end. Whoever handles it takes fds over.
type message struct {
	request, flags uint32
	payload        []byte
	fds            []int
}

// parseMessageHeader checks a header and returns the size of its payload.
func parseMessageHeader(b []byte) (m message, size int, err error) {
	m.request = binary.LittleEndian.Uint32(b[0:])
	m.flags = binary.LittleEndian.Uint32(b[4:])
	n := binary.LittleEndian.Uint32(b[8:])
	if m.flags&messageVersionMask != messageVersion || m.flags&messageReply != 0 {
		return m, 0, fmt.Errorf("%w: request %d has flags %#x", ErrFrontend, m.request, m.flags)
	}
	if n > maxPayload {
		return m, 0, fmt.Errorf("%w: request %d has a payload of %d bytes", ErrFrontend, m.request, n)
	}
	return m, int(n), nil
}

// encodeReply is the reply to request.
func encodeReply(request uint32, payload []byte) []byte {
	b := make([]byte, messageHeaderSize, messageHeaderSize+len(payload))
	binary.LittleEndian.PutUint32(b[0:], request)
	binary.LittleEndian.PutUint32(b[4:], messageVersion|messageReply)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(payload)))
	return append(b, payload...)
}

// u64 is the payload of most messages.
func (m *message) u64() (uint64, error) {
	if len(m.payload) < 8 {
		return 0, m.short()
	}
	return binary.LittleEndian.Uint64(m.payload), nil
}

// vringState is a ring's index and a number whose meaning depends on the request.
func (m *message) vringState() (index int, num uint32, err error) {
	if len(m.payload) < 8 {
		return 0, 0, m.short()
	}
	index, err = m.vringIndex(binary.LittleEndian.Uint32(m.payload))
	return index, binary.LittleEndian.Uint32(m.payload[4:]), err
}

// vringAddr holds addresses in the front-end's address space.
type vringAddr struct{ desc, used, avail uint64 }

func (m *message) vringAddr() (index int, a vringAddr, err error) {
	if len(m.payload) < 40 {
		return 0, a, m.short()
	}
	le := binary.LittleEndian
	a = vringAddr{desc: le.Uint64(m.payload[8:]), used: le.Uint64(m.payload[16:]), avail: le.Uint64(m.payload[24:])}
	index, err = m.vringIndex(le.Uint32(m.payload))
	return index, a, err
}

// vringFD takes the descriptor of a SET_VRING_KICK, CALL or ERR message: -1
// when the message says that there is none.
func (m *message) vringFD() (index, fd int, err error) {
	v, err := m.u64()
	if err != nil {
		return 0, -1, err
	}
	if index, err = m.vringIndex(uint32(v & vringIndexMask)); err != nil {
		return 0, -1, err
	}
	if v&vringNoFD != 0 {
		return index, -1, nil
	}
	if len(m.fds) != 1 {
		return 0, -1, fmt.Errorf("%w: request %d came with %d descriptors instead of one", ErrFrontend, m.request, len(m.fds))
	}
	fd = m.fds[0]
	m.fds = nil
	return index, fd, nil
}

func (m *message) vringIndex(i uint32) (int, error) {
	if i >= queueCount {
		return 0, fmt.Errorf("%w: request %d names ring %d of %d", ErrFrontend, m.request, i, queueCount)
	}
	return int(i), nil
}

// memRegion is one entry of a memory table: guest-physical address, size,
// address in the front-end, and offset in the file that came with it.
type memRegion struct{ gpa, size, uva, offset uint64 }

func (m *message) memTable() ([]memRegion, error) {
	if len(m.payload) < 8 {
		return nil, m.short()
	}
	le := binary.LittleEndian
	n := le.Uint32(m.payload)
	if n > maxRegions || len(m.payload) < 8+32*int(n) {
		return nil, fmt.Errorf("%w: memory table of %d regions in %d bytes", ErrFrontend, n, len(m.payload))
	}
	table := make([]memRegion, n)
	for i := range table {
		b := m.payload[8+32*i:]
		table[i] = memRegion{gpa: le.Uint64(b[0:]), size: le.Uint64(b[8:]), uva: le.Uint64(b[16:]), offset: le.Uint64(b[24:])}
	}
	return table, nil
}

// configReply answers GET_CONFIG. The device's configuration is its CID
// (virtio 1.2 §5.10.4). An empty payload tells the front-end that the range
// does not exist.
func (m *message) configReply(guestCID uint64) ([]byte, error) {
	if len(m.payload) < 12 {
		return nil, m.short()
	}
	config := binary.LittleEndian.AppendUint64(nil, guestCID)
	offset := binary.LittleEndian.Uint32(m.payload[0:])
	size := binary.LittleEndian.Uint32(m.payload[4:])
	if uint64(offset)+uint64(size) > uint64(len(config)) {
		return nil, nil
	}
	reply := append([]byte(nil), m.payload[:12]...)
	return append(reply, config[offset:offset+size]...), nil
}

func (m *message) short() error {
	return fmt.Errorf("%w: request %d has a payload of only %d bytes", ErrFrontend, m.request, len(m.payload))
}
