// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// retryAccept is how long listeners rest when descriptors have run out.
const retryAccept = 100 * time.Millisecond

// Run serves one vhost-user connection until ctx ends (it returns ctx's cause),
// the front-end hangs up (ErrFrontendGone), or the guest or the front-end
// breaks the protocol. It takes conn over. When it returns, streams, listeners,
// mappings and eventfds are closed and every goroutine has ended. It may be
// called once.
func (d *Device) Run(ctx context.Context, conn *net.UnixConn) (err error) {
	defer conn.Close()
	if d.ran.Swap(true) {
		return errors.New("vsock device has run before")
	}
	for _, l := range d.cfg.Listeners {
		defer l.Close()
	}
	s, err := newSession(d.cfg)
	if err != nil {
		return err
	}
	// Callbacks end when their streams do: close first, then wait.
	defer s.handlers.Wait()
	defer s.close()
	if err := s.attach(conn); err != nil {
		return err
	}

	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		s.wake()
	})
	defer func() {
		if !stop() {
			<-woken
		}
	}()
	err = s.run(ctx)
	s.log.Debug("vsock device ended", slog.Any("cause", err))
	return err
}

// session is the state of one Run. All of it belongs to Run's goroutine, but
// for handlers and handlerCount.
type session struct {
	cfg  Config
	log  *slog.Logger
	poll *poller

	front         messageReader
	frontWatch    watch
	wakeWatch     watch
	features      uint64
	protoFeatures uint64
	mem           *memory
	rings         [queueCount]vring
	// up: the guest's driver has started both data rings and has not been
	// reset since. It stays true while the VM is paused.
	up bool

	listeners []*listener
	restUntil time.Time // not zero: listeners are not watched until then
	// streams finds a stream by its ports as long as the guest has a part in
	// it; live counts all, also those that only flush to the host.
	streams  map[streamKey]*stream
	live     int
	lastPort uint32
	ready    []*stream // streams that have something for the guest
	replies  []header  // resets that belong to no stream

	handlers     sync.WaitGroup
	handlerCount atomic.Int32

	scratch scratch
}

// scratch is reused from packet to packet, so that moving data allocates nothing.
type scratch struct {
	segs, iov [][]byte
	chains    []rxChain
}

func newSession(cfg Config) (*session, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	s := &session{
		cfg: cfg, log: cfg.Logger, poll: poll, mem: &memory{},
		streams: make(map[streamKey]*stream), lastPort: firstPort,
	}
	for i := range s.rings {
		s.rings[i].call = -1
	}
	return s, nil
}

// attach registers the front-end's socket, the listeners and the wake-up, each
// by a duplicate of its own: the net package keeps the originals, and nobody
// reads from those.
func (s *session) attach(conn *net.UnixConn) error {
	var err error
	if s.frontWatch, err = s.watchConn(conn, s.onFrontend); err != nil {
		return fmt.Errorf("watch vhost-user socket: %w", err)
	}
	s.front.fd = s.frontWatch.fd
	for port, l := range s.cfg.Listeners {
		ln := &listener{port: port}
		ln.watch, err = s.watchConn(l, func(uint32) error { return s.accept(ln) })
		if err != nil {
			return fmt.Errorf("watch listener of guest port %d: %w", port, err)
		}
		s.listeners = append(s.listeners, ln)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("create eventfd: %w", err)
	}
	s.wakeWatch, err = s.poll.add(fd, unix.EPOLLIN, func(uint32) error { return nil })
	if err != nil {
		_ = unix.Close(fd)
	}
	return err
}

func (s *session) watchConn(c syscall.Conn, handler func(uint32) error) (watch, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return watch{}, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(orig uintptr) {
		fd, dupErr = unix.FcntlInt(orig, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return watch{}, err
	}
	if dupErr != nil {
		return watch{}, fmt.Errorf("duplicate descriptor: %w", dupErr)
	}
	w, err := s.poll.add(fd, unix.EPOLLIN, handler)
	if err != nil {
		_ = unix.Close(fd)
	}
	return w, err
}

// wake may be called from any goroutine while run is under way.
func (s *session) wake() {
	_, _ = unix.Write(s.wakeWatch.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// run is the loop: sleep, take in what happened, move packets. A fault in guest
// memory surfaces as a panic here and becomes an error.
func (s *session) run(ctx context.Context) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(interface{ Addr() uintptr })
			if !ok || !s.mem.holds(fault.Addr()) {
				panic(r)
			}
			err = fmt.Errorf("%w at %#x", ErrMemoryFault, fault.Addr())
		}
	}()
	timeout := -1
	for {
		if err := s.poll.wait(timeout); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.wakeListeners(); err != nil {
			return err
		}
		more, err := s.turn()
		if err != nil {
			return err
		}
		switch {
		case more:
			timeout = 0
		case !s.restUntil.IsZero():
			timeout = int(retryAccept.Milliseconds())
		default:
			timeout = -1
		}
	}
}

// turn moves a bounded number of packets each way and tells whether there are
// more, so that a busy guest cannot keep the loop from anything else.
func (s *session) turn() (more bool, err error) {
	if !s.rings[txQueue].running || !s.rings[rxQueue].running {
		return false, nil
	}
	if err := s.pumpTx(); err != nil {
		return false, fmt.Errorf("tx ring: %w", err)
	}
	if err := s.pumpRx(); err != nil {
		return false, fmt.Errorf("rx ring: %w", err)
	}
	tx, err := s.txIdle()
	if err != nil {
		return false, fmt.Errorf("tx ring: %w", err)
	}
	rx, err := s.rxIdle()
	if err != nil {
		return false, fmt.Errorf("rx ring: %w", err)
	}
	return tx || rx, nil
}

// close releases everything but the Accept callbacks, whose streams end here.
// The poller owns all descriptors that are watched.
func (s *session) close() {
	s.poll.shut()
	for i := range s.rings {
		s.rings[i].setCall(-1)
	}
	closeAll(s.front.fds)
	s.mem.unmap()
}
