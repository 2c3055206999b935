// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// maxQueueSize bounds a ring, and with it the length of a chain; it is also
// IOV_MAX, so that a chain always fits one readv or writev.
const maxQueueSize = 1024

// Descriptor and ring flags, virtio 1.2 §2.7.5, §2.7.6, §2.7.8.
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4

	availNoInterrupt = 1
	usedNoNotify     = 1
)

// queue walks one split virtqueue. Chains are taken and returned in order, and
// none is held between two turns of the loop, so next is at once the index of
// the next available and of the next used entry, and a ring can be stopped at
// any turn.
type queue struct {
	size  uint16
	desc  []byte
	avail []byte
	used  []byte
	next  uint16
	// quiet: the guest was told not to kick.
	quiet bool
}

// newQueue lays a queue over ring memory (virtio 1.2 §2.7.2 gives sizes and
// alignments).
func newQueue(mem *memory, size uint32, addr vringAddr, next uint16) (queue, error) {
	if size == 0 || size > maxQueueSize || size&(size-1) != 0 {
		return queue{}, fmt.Errorf("%w: queue size %d is no power of two up to %d", ErrMalformedRing, size, maxQueueSize)
	}
	n := uint64(size)
	desc, ok1 := mem.user(addr.desc, 16*n)
	avail, ok2 := mem.user(addr.avail, 4+2*n)
	used, ok3 := mem.user(addr.used, 4+8*n)
	if !ok1 || !ok2 || !ok3 {
		return queue{}, fmt.Errorf("%w: ring at %#x, %#x, %#x lies outside of guest memory", ErrMalformedRing, addr.desc, addr.avail, addr.used)
	}
	if !aligned(avail, 2) || !aligned(used, 4) {
		return queue{}, fmt.Errorf("%w: ring at %#x, %#x is not aligned", ErrMalformedRing, addr.avail, addr.used)
	}
	return queue{size: uint16(size), desc: desc, avail: avail, used: used, next: next, quiet: false}, nil
}

func aligned(b []byte, n uintptr) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%n == 0
}

func word(b []byte) *uint32 {
	return (*uint32)(unsafe.Pointer(unsafe.SliceData(b)))
}

// availIdx loads avail.idx. Go has no atomic 16-bit load, so it loads the
// aligned word that holds it. Go's atomics are sequentially consistent: the
// ring entries read afterwards are at least as new as the index.
func (q *queue) availIdx() uint16 {
	if aligned(q.avail, 4) {
		return uint16(atomic.LoadUint32(word(q.avail)) >> 16)
	}
	return uint16(atomic.LoadUint32(word(q.avail[2:])))
}

// available returns how many chains the guest offers.
func (q *queue) available() (int, error) {
	n := q.availIdx() - q.next
	if n > q.size {
		return 0, fmt.Errorf("%w: available index is %d entries ahead in a queue of %d", ErrMalformedRing, n, q.size)
	}
	return int(n), nil
}

// chain appends the segments of the k-th available chain to segs. It changes
// nothing: complete takes the chain. k must be below available.
func (q *queue) chain(mem *memory, k int, writable bool, segs [][]byte) (head uint16, _ [][]byte, size uint64, err error) {
	slot := (q.next + uint16(k)) & (q.size - 1)
	head = binary.LittleEndian.Uint16(q.avail[4+2*int(slot):])
	id := head
	// A chain is no longer than the table; a longer one is a loop.
	for range q.size {
		if id >= q.size {
			return 0, nil, 0, fmt.Errorf("%w: descriptor %d in a table of %d", ErrMalformedRing, id, q.size)
		}
		// One copy: the guest may rewrite the table at any time.
		var d [16]byte
		copy(d[:], q.desc[16*int(id):])
		addr := binary.LittleEndian.Uint64(d[0:])
		length := binary.LittleEndian.Uint32(d[8:])
		flags := binary.LittleEndian.Uint16(d[12:])
		if flags&descIndirect != 0 {
			return 0, nil, 0, fmt.Errorf("%w: descriptor %d is indirect, which was not offered", ErrMalformedRing, id)
		}
		if (flags&descWrite != 0) != writable {
			return 0, nil, 0, fmt.Errorf("%w: descriptor %d has the wrong direction", ErrMalformedRing, id)
		}
		if length > 0 {
			seg, ok := mem.guest(addr, uint64(length))
			if !ok {
				return 0, nil, 0, fmt.Errorf("%w: descriptor %d points to %#x+%#x, outside of guest memory", ErrMalformedRing, id, addr, length)
			}
			segs = append(segs, seg)
			size += uint64(length)
		}
		if flags&descNext == 0 {
			return head, segs, size, nil
		}
		id = binary.LittleEndian.Uint16(d[14:])
	}
	return 0, nil, 0, fmt.Errorf("%w: descriptor chain from %d loops", ErrMalformedRing, head)
}

// complete returns the next chain to the guest with written bytes in it.
// publish makes it visible.
func (q *queue) complete(head uint16, written int) {
	entry := q.used[4+8*int(q.next&(q.size-1)):]
	binary.LittleEndian.PutUint32(entry[0:], uint32(head))
	binary.LittleEndian.PutUint32(entry[4:], uint32(written))
	q.next++
}

// publish stores used.flags and used.idx. They share an aligned word, and only
// the device writes it. The store is sequentially consistent: entries are
// visible before it, and the loads after it (availFlags, available) are not
// done before it, which is the store-load barrier that notification
// suppression needs on both sides (virtio 1.2 §2.7.7.2, §2.7.10).
func (q *queue) publish() {
	var flags uint32
	if q.quiet {
		flags = usedNoNotify
	}
	atomic.StoreUint32(word(q.used), flags|uint32(q.next)<<16)
}

// suppress asks the guest not to kick, or to kick again. After suppress(false)
// the caller must look at available once more.
func (q *queue) suppress(quiet bool) {
	if q.quiet != quiet {
		q.quiet = quiet
		q.publish()
	}
}

// wantsInterrupt is asked after publish. The index is loaded first, for the
// ordering only: on arm64 a plain load may not pass an earlier acquire load.
func (q *queue) wantsInterrupt() bool {
	_ = q.availIdx()
	return binary.LittleEndian.Uint16(q.avail)&availNoInterrupt == 0
}
