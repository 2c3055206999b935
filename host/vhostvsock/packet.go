// SPDX-License-Identifier: Apache-2.0

package vhostvsock

import "encoding/binary"

// headerSize is the size of struct virtio_vsock_hdr (virtio 1.2 §5.10.6).
const headerSize = 44

// typeStream is VIRTIO_VSOCK_TYPE_STREAM, the only type that is offered.
const typeStream = 1

// Packet operations, virtio 1.2 §5.10.6.
const (
	opRequest       = 1
	opResponse      = 2
	opReset         = 3
	opShutdown      = 4
	opData          = 5
	opCreditUpdate  = 6
	opCreditRequest = 7
)

// Flags of opShutdown (virtio 1.2 §5.10.6.5): what the sender will no longer do.
// They are permanent for the stream.
const (
	shutReceive = 1
	shutSend    = 2
	shutBoth    = shutReceive | shutSend
)

// header is struct virtio_vsock_hdr.
type header struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	length           uint32 // payload bytes that follow
	typ, op          uint16
	flags            uint32
	bufAlloc, fwdCnt uint32 // credit, virtio 1.2 §5.10.6.3
}

// parseHeader decodes b, which the caller has copied out of guest memory: what
// is checked must not change afterwards.
func parseHeader(b *[headerSize]byte) header {
	le := binary.LittleEndian
	return header{
		srcCID:   le.Uint64(b[0:]),
		dstCID:   le.Uint64(b[8:]),
		srcPort:  le.Uint32(b[16:]),
		dstPort:  le.Uint32(b[20:]),
		length:   le.Uint32(b[24:]),
		typ:      le.Uint16(b[28:]),
		op:       le.Uint16(b[30:]),
		flags:    le.Uint32(b[32:]),
		bufAlloc: le.Uint32(b[36:]),
		fwdCnt:   le.Uint32(b[40:]),
	}
}

func (h *header) encode() (b [headerSize]byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.length)
	le.PutUint16(b[28:], h.typ)
	le.PutUint16(b[30:], h.op)
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.bufAlloc)
	le.PutUint32(b[40:], h.fwdCnt)
	return b
}

// reset is the answer to a packet that belongs to no stream.
func (h *header) reset() header {
	return header{
		srcCID: h.dstCID, dstCID: h.srcCID,
		srcPort: h.dstPort, dstPort: h.srcPort,
		typ: h.typ, op: opReset,
	}
}

// gather copies the head of segs into dst and returns how much was copied and
// the segments after it. segs itself is overwritten.
func gather(dst []byte, segs [][]byte) (n int, rest [][]byte) {
	for len(segs) > 0 && n < len(dst) {
		c := copy(dst[n:], segs[0])
		n += c
		if segs[0] = segs[0][c:]; len(segs[0]) == 0 {
			segs = segs[1:]
		}
	}
	return n, segs
}

// scatter is the reverse: it copies src to the head of segs.
func scatter(segs [][]byte, src []byte) {
	n := 0
	for len(segs) > 0 && n < len(src) {
		c := copy(segs[0], src[n:])
		n += c
		if segs[0] = segs[0][c:]; len(segs[0]) == 0 {
			segs = segs[1:]
		}
	}
}

// trim shortens segs to n bytes, in place. segs holds at least n bytes.
func trim(segs [][]byte, n int) [][]byte {
	for i := range segs {
		if n <= len(segs[i]) {
			segs[i] = segs[i][:n]
			return segs[:i+1]
		}
		n -= len(segs[i])
	}
	return segs
}

// skip returns segs without their first n bytes. It overwrites segs.
func skip(segs [][]byte, n int) [][]byte {
	for len(segs) > 0 && n >= len(segs[0]) {
		n -= len(segs[0])
		segs = segs[1:]
	}
	if len(segs) > 0 {
		segs[0] = segs[0][n:]
	}
	return segs
}

// window appends the n bytes after the first skip bytes of segs to iov.
func window(iov, segs [][]byte, skip, n int) [][]byte {
	for _, seg := range segs {
		if n == 0 {
			break
		}
		if skip >= len(seg) {
			skip -= len(seg)
			continue
		}
		seg = seg[skip:]
		skip = 0
		seg = seg[:min(n, len(seg))]
		n -= len(seg)
		iov = append(iov, seg)
	}
	return iov
}
