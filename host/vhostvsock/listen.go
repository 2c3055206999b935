// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// acceptBudget bounds the connections taken from a listener in one turn.
	acceptBudget = 64
	// maxHandlers bounds the Accept callbacks that run at once: the guest can
	// open and leave streams faster than a callback returns.
	maxHandlers = 256
)

// listener carries host connections to one guest port.
type listener struct {
	port  uint32
	watch watch
}

// accept takes connections while the guest can have them; otherwise they are
// closed at once, which the host side sees as EOF and not as a wait.
func (s *session) accept(l *listener) error {
	for range acceptBudget {
		fd, _, err := unix.Accept4(l.watch.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) ||
			errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS):
			s.log.Warn("cannot accept connections to the guest for now", slog.Any("error", err))
			return s.restListeners()
		default:
			return fmt.Errorf("accept connection to guest port %d: %w", l.port, err)
		}
		if !s.up || s.live >= maxStreams {
			s.log.Debug("refused connection to the guest", slog.Bool("up", s.up), slog.Int("streams", s.live))
			_ = unix.Close(fd)
			continue
		}
		key := streamKey{host: s.freePort(l.port), guest: l.port}
		if err := s.open(key, fd, statConnecting, sendRequest); err != nil {
			return err
		}
	}
	return nil
}

// freePort picks the host port of a stream to the given guest port. One of the
// next maxStreams+1 ports is free.
func (s *session) freePort(guest uint32) uint32 {
	for {
		if s.lastPort++; s.lastPort < firstPort {
			s.lastPort = firstPort
		}
		if _, taken := s.streams[streamKey{host: s.lastPort, guest: guest}]; !taken {
			return s.lastPort
		}
	}
}

// restListeners stops watching the listeners until wakeListeners: they are
// level-triggered and would spin while descriptors are short.
func (s *session) restListeners() error {
	s.resting = true
	return s.watchListeners(0)
}

func (s *session) wakeListeners() error {
	if !s.resting {
		return nil
	}
	s.resting = false
	return s.watchListeners(unix.EPOLLIN)
}

func (s *session) watchListeners(events uint32) error {
	for _, l := range s.listeners {
		if err := s.poll.modify(l.watch, events); err != nil {
			return err
		}
	}
	return nil
}

// dialled handles the guest's request for a stream to a host port.
func (s *session) dialled(key streamKey, h *header) error {
	accept, ok := s.cfg.Accept[key.host]
	if !ok || s.live >= maxStreams || s.handlerCount.Load() >= maxHandlers {
		s.replies = append(s.replies, h.reset())
		return nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.log.Warn("cannot accept a stream of the guest", slog.Any("error", err))
		s.replies = append(s.replies, h.reset())
		return nil
	}
	file := os.NewFile(uintptr(fds[1]), "vsock")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		_ = unix.Close(fds[0])
		return fmt.Errorf("wrap stream of the guest: %w", err)
	}
	if err := s.open(key, fds[0], statConnected, sendResponse); err != nil {
		_ = conn.Close()
		return err
	}
	s.streams[key].acknowledge(h)
	s.handlerCount.Add(1)
	s.handlers.Go(func() {
		defer s.handlerCount.Add(-1)
		accept(conn)
	})
	return nil
}
