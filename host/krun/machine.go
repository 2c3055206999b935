// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/vm"
)

// drainLimit bounds the reading of the console after the VMM's end.
const drainLimit = 2 * time.Second

// errNoResume: libkrun never pauses a machine. A full disk of the host's is an I/O
// error of the guest's.
var errNoResume = errors.New("resume: not supported by libkrun")

// machine implements vm.Machine. supervise owns everything that the machine holds,
// and is the only goroutine that outlives Start.
type machine struct {
	child
	dir     *directory
	log     *slog.Logger
	stopped atomic.Bool
	// reported is closed when shown is known, or never will be.
	reported chan struct{}
	shown    spec.Shown
	done     chan struct{}
	err      error // valid once done is closed
}

func (m *machine) PID() int { return m.proc.PID() }

func (m *machine) Done() <-chan struct{} { return m.done }

func (m *machine) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

func (m *machine) Resume() error { return errNoResume }

func (m *machine) Stop(ctx context.Context) error {
	m.stopped.Store(true)
	m.proc.Kill()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of waggle-krun: %w", context.Cause(ctx))
	}
}

// supervise serves the machine until the VMM has ended, whoever ended it, and then
// releases everything in order: streams, console, directory.
func (m *machine) supervise(s vm.Spec) {
	defer close(m.done)
	vmCtx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var streams sync.WaitGroup
	streams.Go(func() { carryGuest(vmCtx, s.Guest, m.dir.dial, m.log) })
	streams.Go(func() { acceptReady(vmCtx, m.dir.ready, s.Ready) })
	consoleEnd := make(chan error, 1)
	go func() {
		_, err := io.Copy(s.Console, m.dir.console)
		// The guest waits while its console is not read.
		_, _ = io.Copy(io.Discard, m.dir.console)
		consoleEnd <- err
	}()

	<-m.proc.Exited()
	_ = m.alive.Close()
	_ = s.Guest.Close()
	_ = m.dir.ready.Close()
	cancel()
	streams.Wait()
	_ = m.dir.hold.Close() // with the VMM's gone, the last writing end
	_ = m.dir.console.SetReadDeadline(time.Now().Add(drainLimit))
	consoleErr := <-consoleEnd
	removeErr := m.dir.remove()
	<-m.reported
	m.err = m.cause()
	if !m.stopped.Load() {
		m.log.Warn("waggle-krun ended by itself", slog.Any("said", m.proc.Failure())) // as it is called in the jail
	}
	m.log.Debug("waggle-krun ended", slog.Any("cause", m.err), slog.Any("console", consoleErr), slog.Any("remove", removeErr))
}

// cause says why the machine ended. libkrun ends its process with 0 whether the
// guest shut down, panicked or never started.
func (m *machine) cause() error {
	switch {
	case m.stopped.Load():
		return vm.ErrStopped
	case m.proc.State().Success():
		return fmt.Errorf("the guest ended by itself; if nobody shut it down, its console says why: %w", vm.ErrPoweredOff)
	}
	return m.failure()
}

// awaitReport is readReport for the machine. It is called once.
func (m *machine) awaitReport(ctx context.Context) (r spec.Report, err error) {
	defer close(m.reported)
	r, m.shown, err = m.readReport(ctx)
	return r, err
}

// failure is what the VMM said of its end, in the host's paths.
func (m *machine) failure() error { return errors.New(outside(m.shown, m.proc.Failure().Error())) }
