// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

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
		if _, err := s.open(key, fd, statConnecting, sendRequest); err != nil {
			s.log.Warn("cannot open a stream to the guest", slog.Any("error", err))
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
	s.restUntil = time.Now().Add(retryAccept)
	return s.watchListeners(0)
}

func (s *session) wakeListeners() error {
	if s.restUntil.IsZero() || time.Now().Before(s.restUntil) {
		return nil
	}
	s.restUntil = time.Time{}
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

// dialled handles the guest's request for a stream to a host port. What cannot
// be opened is refused, and costs the guest no more than that.
func (s *session) dialled(key streamKey, h *header) {
	accept, ok := s.cfg.Accept[key.host]
	if !ok || s.live >= maxStreams || s.handlerCount.Load() >= maxHandlers {
		s.replies = append(s.replies, h.reset())
		return
	}
	fd, conn, err := socketPair()
	if err != nil {
		s.log.Warn("cannot accept a stream of the guest", slog.Any("error", err))
		s.replies = append(s.replies, h.reset())
		return
	}
	t, err := s.open(key, fd, statConnected, sendResponse)
	if err != nil {
		s.log.Warn("cannot accept a stream of the guest", slog.Any("error", err))
		s.replies = append(s.replies, h.reset())
		_ = conn.Close()
		return
	}
	t.acknowledge(h)
	s.handlerCount.Add(1)
	s.handlers.Go(func() {
		defer s.handlerCount.Add(-1)
		accept(conn)
	})
}

// socketPair returns the two ends of a stream: a descriptor for the loop, and
// a connection for a callback.
func socketPair() (fd int, conn net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("create socket pair: %w", err)
	}
	file := os.NewFile(uintptr(fds[1]), "vsock")
	defer file.Close()
	conn, err = net.FileConn(file)
	if err != nil {
		_ = unix.Close(fds[0])
		return -1, nil, fmt.Errorf("wrap socket pair: %w", err)
	}
	return fds[0], conn, nil
}
