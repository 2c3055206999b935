// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"io"
	"net"
)

// Ports of the guest agent's contract (docs/protocol.md).
const (
	// GuestPort is the vsock port on which guestd serves Connect over h2c.
	GuestPort uint32 = 1024
	// ReadyPort is the host's vsock port that guestd dials when it is ready.
	ReadyPort uint32 = 1025
)

// ErrStopped is what Machine.Err returns after an end that was asked for.
var ErrStopped = errors.New("vm stopped on request")

// ErrPoweredOff is what Machine.Err returns when the guest switched itself off,
// as it does after an orderly shutdown.
var ErrPoweredOff = errors.New("guest powered itself off")

// Disk is one block device of the guest. Order is meaning: the first disk is
// /dev/vda, the second /dev/vdb.
type Disk struct {
	// Path is a raw image on the host. Absolute.
	Path string
	// ReadOnly disks may be shared by any number of machines.
	ReadOnly bool
}

// NIC connects the guest to a network that the caller runs.
type NIC struct {
	// MAC is the guest's hardware address.
	MAC net.HardwareAddr
	// Conn carries Ethernet frames, each with a 4-byte big-endian length in
	// front (QEMU's stream format). The backend owns it from Start on and
	// hands it to the VMM; it is closed when the machine has ended or when
	// Start failed.
	Conn *net.UnixConn
}

// Spec is all that a backend needs to start one machine.
type Spec struct {
	// ID names the machine in logs. It is never interpreted.
	ID string
	// Dir is the machine's own directory (0700) for sockets that the backend
	// needs for itself. The caller creates and removes it.
	Dir string
	// CPUs is the number of virtual CPUs, at least 1.
	CPUs int
	// MemoryMiB is the guest's memory in MiB.
	MemoryMiB int
	// Disks in device order. None is allowed: the guest then stays in its
	// initial file system.
	Disks []Disk
	// NIC is nil for a machine without a network.
	NIC *NIC
	// Guest accepts the host's streams to the guest: each accepted
	// connection is carried to vsock port GuestPort. The backend owns the
	// listener from Start on and closes it when the machine has ended.
	Guest *net.UnixListener
	// Ready is called for each stream that the guest opens to the host's
	// ReadyPort, from one goroutine per stream; the callee closes conn. Any
	// other host port is refused.
	Ready func(conn net.Conn)
	// Console receives the guest's serial console as it is written. It must
	// not block for ever: a guest that floods its console is then slowed
	// down. Writes come from one goroutine, which has ended before Done is
	// closed.
	Console io.Writer
	// Paused is called with true when the VMM has stopped the guest's CPUs
	// because a write to one of Disks found the host's disk full, and with false
	// when they run again. Calls come from one goroutine, which has ended before
	// Done is closed, and must not block. May be nil.
	Paused func(paused bool)
}

// Backend starts machines. Start may be called concurrently.
type Backend interface {
	// Name is "qemu" or "krun".
	Name() string
	// Start returns as soon as the VMM runs; the guest is then booting. ctx
	// bounds Start alone, never the life of the machine. After an error
	// nothing of the machine is left: no process, no socket, no descriptor.
	Start(ctx context.Context, spec Spec) (Machine, error)
}

// Machine is a started virtual machine. All methods may be called
// concurrently.
type Machine interface {
	// PID is the process id of the VMM.
	PID() int
	// Done is closed when the VMM has ended, its console is drained and all
	// that the backend held for it is released.
	Done() <-chan struct{}
	// Err says why the machine ended: ErrStopped after Stop, ErrPoweredOff when
	// the guest shut down by itself, otherwise the cause. It is nil until Done is closed.
	Err() error
	// Resume lets a paused machine go on, with the write that failed. It is
	// paused again when that fails again.
	Resume() error
	// Stop ends the machine at once, as if the power was cut, and returns
	// when Done is closed or ctx ends. It is idempotent. An orderly shutdown
	// is the guest agent's business and comes before it.
	Stop(ctx context.Context) error
}
