// SPDX-License-Identifier: Apache-2.0

package vhostvsock

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
)

// Why Run ended, other than by its context.
var (
	// ErrFrontendGone: the front-end closed its end, as QEMU does on exit.
	ErrFrontendGone = errors.New("vhost-user front-end hung up")
	// ErrFrontend: the front-end broke the vhost-user protocol.
	ErrFrontend = errors.New("vhost-user front-end broke the protocol")
	// ErrMalformedRing: the guest broke a virtqueue (virtio 1.2 §2.7).
	ErrMalformedRing = errors.New("guest broke a virtqueue")
	// ErrMemory: the memory that the front-end shares cannot be used safely.
	ErrMemory = errors.New("shared guest memory refused")
	// ErrMemoryFault: guest memory vanished under the device, for example
	// because the host ran out of memory for it.
	ErrMemoryFault = errors.New("guest memory faulted")
)

// hostCID is the host's context id, VMADDR_CID_HOST.
const hostCID = 2

// Config says what the device connects.
type Config struct {
	// GuestCID is the guest's context id, at least 3.
	GuestCID uint64
	// Listeners: every connection accepted on Listeners[p] becomes a stream
	// to guest port p. The device closes them when Run returns. While the
	// guest has no vsock driver yet, connections are closed at once.
	Listeners map[uint32]*net.UnixListener
	// Accept: a stream that the guest opens to host port p is handed to
	// Accept[p] on a goroutine of its own, which Run waits for. The callee
	// closes conn and must return once conn fails or reads EOF. Other ports
	// are answered with RST.
	Accept map[uint32]func(conn net.Conn)
	// Logger may be nil.
	Logger *slog.Logger
}

// Device is a vsock device for one VM.
type Device struct {
	cfg Config
	ran atomic.Bool
}

// New checks cfg. Nothing is opened before Run.
func New(cfg Config) (*Device, error) {
	if cfg.GuestCID <= hostCID || cfg.GuestCID >= 1<<32-1 {
		return nil, fmt.Errorf("guest CID %d: must be 3 to %d", cfg.GuestCID, uint32(1<<32-2))
	}
	for port, l := range cfg.Listeners {
		if l == nil {
			return nil, fmt.Errorf("listener for guest port %d is nil", port)
		}
	}
	for port, accept := range cfg.Accept {
		if accept == nil {
			return nil, fmt.Errorf("accept function for host port %d is nil", port)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Device{cfg: cfg}, nil
}
