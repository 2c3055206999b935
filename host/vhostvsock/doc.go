// SPDX-License-Identifier: Apache-2.0

// Package vhostvsock is a vhost-user-vsock device: it gives a QEMU guest a real
// AF_VSOCK without the vhost_vsock kernel module and without root. QEMU, the
// front-end, shares the guest's memory and eventfds over a Unix socket; the
// device walks the virtqueues there and carries each vsock stream to a Unix
// socket of the host.
//
//	host process ── Unix socket ── stream ── rx ring ──▶ guest socket
//	                                stream ◀── tx ring ── guest socket
//
// It follows the vhost-user protocol, virtio 1.2 §2.7 (split virtqueues) and
// §5.10 (socket device). Only stream sockets are offered; EVENT_IDX and
// INDIRECT are not, because they were measured to gain nothing here.
//
// # Concurrency
//
// One goroutine, the one that called Run, owns everything: it sleeps in epoll
// and never blocks elsewhere, so there is no lock and no lock order. Sockets
// are non-blocking and their readiness is edge-triggered; a stream that cannot
// move leaves the run queue until its socket or the guest's credit changes, so
// a stalled reader delays nobody. The only other goroutines are the Accept
// callbacks, which never touch the device's state, and Run waits for them.
//
// # Trust
//
// The guest is hostile. Its memory is read field by field into local copies
// before anything is checked, every index, length and address is bounds-checked,
// every loop is bounded by the queue size or a budget, and what it can make the
// host store is bounded by maxStreams, recvWindow and maxReplies. A guest that
// breaks the ring ends its own device (ErrMalformedRing); one that breaks the
// vsock protocol loses the stream concerned. The front-end is checked as well,
// since it is the first thing that a guest would break out into; its memory
// must be sealed against shrinking, and a fault in it ends Run with
// ErrMemoryFault instead of the process.
package vhostvsock
