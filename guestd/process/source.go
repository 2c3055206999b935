// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// source is the reading end of a pipe, or a terminal, outside of Go's poller.
// That one is told of every single write, which costs the writer more than the
// write itself: 100 bytes at a time, an emulated process wrote 0.4 MB/s. A source
// asks for one event (EPOLLONESHOT, epoll_ctl(2)) when its reader finds nothing,
// and for none while the reader is busy. read has one caller; the other methods
// may be called concurrently.
type source struct {
	file *os.File
	pipe syscall.RawConn // of file
	// events is an epoll instance that watches file alone. Go's poller watches
	// the instance, which gives read a deadline and an end by close.
	events      *os.File
	epoll       syscall.RawConn // of events
	interrupted atomic.Bool
}

// newSource takes fd over, also when it fails.
func newSource(fd int) (*source, error) {
	// In this order: Go's poller takes what does not block already.
	s := &source{file: os.NewFile(uintptr(fd), "output")}
	if err := s.open(fd); err != nil {
		s.close()
		return nil, fmt.Errorf("open output: %w", err)
	}
	return s, nil
}

func (s *source) open(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(epoll, true); err != nil {
		_ = unix.Close(epoll)
		return os.NewSyscallError("fcntl", err)
	}
	s.events = os.NewFile(uintptr(epoll), "events")
	if s.pipe, err = s.file.SyscallConn(); err != nil {
		return err
	}
	if s.epoll, err = s.events.SyscallConn(); err != nil {
		return err
	}
	return s.ask(unix.EPOLL_CTL_ADD, 0)
}

// read waits for data. It returns os.ErrDeadlineExceeded from interrupt to
// resume, io.EOF when no process has the other end, EIO for such a terminal, and
// os.ErrClosed after close.
func (s *source) read(buf []byte) (int, error) {
	for {
		if s.interrupted.Load() {
			return 0, os.ErrDeadlineExceeded
		}
		n, err := s.file.Read(buf)
		if !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
		if err := s.ask(unix.EPOLL_CTL_MOD, unix.EPOLLIN); err != nil {
			return 0, err
		}
		if err := s.epoll.Read(happened); err != nil {
			return 0, err
		}
	}
}

// readNow takes what is there: unix.EAGAIN when there is nothing.
func (s *source) readNow(buf []byte) (int, error) { return s.file.Read(buf) }

// widen gives a pipe a larger size. It is only a wish, as with setPipeSize.
func (s *source) widen(size int) { setPipeSize(s.file, size) }

// ask asks for one event, of the end of the stream in any case.
func (s *source) ask(op int, events uint32) error {
	var refused, noPipe error
	noEpoll := s.epoll.Control(func(epoll uintptr) {
		noPipe = s.pipe.Control(func(fd uintptr) {
			refused = unix.EpollCtl(int(epoll), op, int(fd), &unix.EpollEvent{Events: events | unix.EPOLLONESHOT})
		})
	})
	if err := errors.Join(noEpoll, noPipe, refused); err != nil {
		return fmt.Errorf("watch output: %w", err)
	}
	return nil
}

// happened takes the event that was asked for, if it is there.
func happened(epoll uintptr) bool {
	var event [1]unix.EpollEvent
	n, err := unix.EpollWait(int(epoll), event[:], 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}

// interrupt makes read return until resume.
func (s *source) interrupt() {
	s.interrupted.Store(true)
	_ = s.events.SetReadDeadline(time.Unix(1, 0))
}

// resume lets read wait again.
func (s *source) resume() {
	s.interrupted.Store(false)
	_ = s.events.SetReadDeadline(time.Time{})
}

// close ends a read that waits. A second call does nothing.
func (s *source) close() {
	if s.events != nil {
		_ = s.events.Close()
	}
	_ = s.file.Close()
}
