// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance with a handler per descriptor.
type poller struct {
	fd       int
	last     uint64
	handlers map[uint64]handler
	events   [64]unix.EpollEvent
}

type handler struct {
	fd int
	fn func(events uint32) error
}

// watch is a registered descriptor. The token, not the descriptor's number,
// names it in events: the number may be in use again by the time an event of
// the same batch is looked at. The zero watch is not open.
type watch struct {
	fd    int
	token uint64
}

func (w *watch) open() bool { return w.token != 0 }

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	return &poller{fd: fd, handlers: make(map[uint64]handler)}, nil
}

// add registers fd; the watch owns it from then on. After an error fd is still
// the caller's.
func (p *poller) add(fd int, events uint32, fn func(events uint32) error) (watch, error) {
	p.last++
	w := watch{fd: fd, token: p.last}
	if err := p.ctl(unix.EPOLL_CTL_ADD, w, events); err != nil {
		return watch{}, err
	}
	p.handlers[w.token] = handler{fd: fd, fn: fn}
	return w, nil
}

// modify also reports anew what is ready now, edge-triggered or not.
func (p *poller) modify(w watch, events uint32) error {
	return p.ctl(unix.EPOLL_CTL_MOD, w, events)
}

func (p *poller) ctl(op int, w watch, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(uint32(w.token)), Pad: int32(uint32(w.token >> 32))}
	if err := unix.EpollCtl(p.fd, op, w.fd, &ev); err != nil {
		return fmt.Errorf("epoll descriptor %d: %w", w.fd, err)
	}
	return nil
}

// close closes w's descriptor. It is removed by hand first: the kernel does so
// only when the last duplicate is closed, and the front-end has one.
func (p *poller) close(w *watch) {
	if !w.open() {
		return
	}
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, w.fd, nil)
	_ = unix.Close(w.fd)
	delete(p.handlers, w.token)
	*w = watch{}
}

// wait sleeps for at most timeout milliseconds (-1: for ever) and calls the
// handlers of what is ready.
func (p *poller) wait(timeout int) error {
	n, err := unix.EpollWait(p.fd, p.events[:], timeout)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for epoll: %w", err)
	}
	for _, ev := range p.events[:n] {
		token := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
		if h, ok := p.handlers[token]; ok {
			if err := h.fn(ev.Events); err != nil {
				return err
			}
		}
	}
	return nil
}

// shut closes the poller and every descriptor that it still watches.
func (p *poller) shut() {
	for _, h := range p.handlers {
		_ = unix.Close(h.fd)
	}
	clear(p.handlers)
	_ = unix.Close(p.fd)
}
