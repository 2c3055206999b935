// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"math"
	"runtime/debug"
)

const (
	// heapFreeExecs run within the memory limit that the program has set.
	heapFreeExecs = 32
	// heapPerExec is what the streams, buffers and goroutines of one more take, in
	// bytes, and what the collector needs beside it.
	heapPerExec = 100 << 10
	// heapMost keeps the limit below what the machine reserves for guestd.
	heapMost = 28 << 20
)

// heap raises the memory limit of the Go runtime while many execs run at once:
// within a limit that suits a few, the collector would take half of the time of a
// hundred. A process without a limit stays without. Service.mu guards it.
type heap struct {
	base int64 // the limit that was set; 0: none
	room int   // for so many execs; 0: base
}

func newHeap() heap {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		return heap{base: limit}
	}
	return heap{}
}

// fit follows the number of running execs. To change the limit stops the world, so
// it goes in doublings, and back only from a quarter.
func (h *heap) fit(running int) {
	room := max(h.room, heapFreeExecs)
	for running > room {
		room *= 2
	}
	for room > heapFreeExecs && running <= room/4 {
		room /= 2
	}
	if h.base == 0 || room == max(h.room, heapFreeExecs) {
		return
	}
	h.room = room
	debug.SetMemoryLimit(h.limit())
}

// limit is the memory limit for the room that there is.
func (h *heap) limit() int64 {
	extra := max(h.room, heapFreeExecs) - heapFreeExecs
	return h.base + min(int64(extra)*heapPerExec, heapMost)
}
