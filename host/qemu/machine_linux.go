// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/stacklok/waggle/host/vhostvsock"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vmm"
)

// exitGrace is how long QEMU, having closed the vsock socket, may take to end
// by itself before it is killed.
const exitGrace = 2 * time.Second

// machine implements vm.Machine. supervise owns everything that the machine
// holds, and is the only goroutine that outlives Start.
type machine struct {
	proc    *vmm.Process
	log     *slog.Logger
	control *qmp // valid once Start has returned
	stopped atomic.Bool
	done    chan struct{}
	err     error // valid once done is closed
	failure error // err, but what QEMU said even if it was stopped
}

func newMachine(proc *vmm.Process, control *qmp, log *slog.Logger) *machine {
	return &machine{proc: proc, control: control, log: log, done: make(chan struct{})}
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

func (m *machine) Resume() error {
	if err := m.control.resume(); err != nil {
		return fmt.Errorf("resume qemu: %w", err)
	}
	return nil
}

func (m *machine) Stop(ctx context.Context) error {
	m.stopped.Store(true)
	m.kill()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of qemu: %w", context.Cause(ctx))
	}
}

func (m *machine) kill() { m.proc.Kill() }

// supervise serves the machine until QEMU has ended, whoever ended it, and
// then releases everything in order: vsock device and its streams, console, QMP.
// startCtx bounds the start alone; up gets the start's result.
func (m *machine) supervise(
	startCtx context.Context, res *resources, device *vhostvsock.Device, console io.Writer, up chan<- error,
) {
	defer close(m.done)
	vmCtx, cancel := context.WithCancel(context.Background())
	defer cancel()

	deviceEnd := make(chan error, 1)
	go func() { deviceEnd <- device.Run(vmCtx, res.vsock) }()
	consoleEnd := make(chan error, 1)
	go func() {
		_, err := io.Copy(console, res.console)
		// QEMU waits when the console is not read, and the guest with it.
		_, _ = io.Copy(io.Discard, res.console)
		consoleEnd <- err
	}()
	controlEnd := make(chan struct{})
	go func() {
		defer close(controlEnd)
		up <- m.control.negotiate(startCtx)
		m.control.watch()
	}()

	deviceErr := m.await(deviceEnd)
	cancel()
	if deviceErr == nil {
		deviceErr = <-deviceEnd
	}
	consoleErr := <-consoleEnd
	<-controlEnd
	res.close()
	m.failure = m.cause(deviceErr, m.control.shutdown)
	m.err = m.failure
	if m.stopped.Load() {
		m.err = vm.ErrStopped
	}
	m.log.Debug("qemu ended", slog.Any("cause", m.err), slog.Any("console", consoleErr))
}

// await returns when QEMU has ended: nil, or what ended the vsock device
// before. A machine is of no use without its device.
func (m *machine) await(deviceEnd <-chan error) error {
	select {
	case <-m.proc.Exited():
		return nil
	case err := <-deviceEnd:
		if errors.Is(err, vhostvsock.ErrFrontendGone) {
			timer := time.AfterFunc(exitGrace, m.kill)
			defer timer.Stop()
		} else {
			m.kill()
		}
		<-m.proc.Exited()
		return err
	}
}

// cause says why the machine ended. QEMU's own words come first, unless it was
// killed for what its guest did to the device.
func (m *machine) cause(deviceErr error, shutdown string) error {
	switch {
	case m.proc.Killed() && deviceErr != nil &&
		!errors.Is(deviceErr, vhostvsock.ErrFrontendGone) && !errors.Is(deviceErr, context.Canceled):
		return fmt.Errorf("vsock device: %w", deviceErr)
	case !m.proc.State().Success():
		return m.proc.Failure()
	case shutdown == "guest-shutdown":
		return vm.ErrPoweredOff
	case shutdown == "guest-reset", shutdown == "guest-panic":
		return errors.New("the guest restarted or its kernel panicked; its console says why")
	}
	return m.proc.Failure()
}
