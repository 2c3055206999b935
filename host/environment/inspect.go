// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"fmt"
	"time"

	"github.com/stacklok/waggle/host/supervisor"
)

const (
	// inspectTimeout bounds the question to the guest: what it has used is worth no
	// long wait, and an environment that does not answer is described without.
	inspectTimeout = 10 * time.Second
	// consoleLines bounds what is shown of the console, in bytes.
	consoleLines = 4 << 10
)

// Usage is what an environment uses now.
type Usage struct {
	// Bytes.
	MemoryTotal, MemoryAvailable, DiskTotal, DiskFree uint64
	// Processes are those of the machine, the kernel's included; Executions run.
	Processes, Executions int
	Uptime                time.Duration
}

// Details describe one environment at length.
type Details struct {
	Info
	// Usage is nil when the environment does not run, or does not answer: NoUsage then
	// says why.
	Usage   *Usage
	NoUsage string
	// Console are the last lines of one that has failed.
	Console string
}

// Inspect describes one environment at length. It is no activity.
func (m *Manager) Inspect(ctx context.Context, id string) (Details, error) {
	e, err := m.find(ctx, id)
	if err != nil {
		return Details{}, err
	}
	d := Details{Info: e.snapshot()}
	e.mu.Lock()
	machine := e.machine
	e.mu.Unlock()
	if machine != nil && d.State == StateFailed {
		d.Console = supervisor.ConsoleTail(machine.Dir(), consoleLines)
	}
	if d.State != StateRunning {
		return d, nil
	}
	callCtx, c, err := m.begin(ctx, id)
	if err != nil { // it stands still
		d.NoUsage = err.Error()
		return d, nil
	}
	defer c.done()
	askCtx, cancel := context.WithTimeoutCause(callCtx, inspectTimeout, fmt.Errorf("%w: %w", ErrLost, errNoAnswer))
	defer cancel()
	i, err := c.machine.Guest().Info(askCtx)
	if err != nil {
		d.NoUsage = guestError(askCtx, "ask for its use", err).Error()
		return d, nil
	}
	d.Usage = &Usage{
		MemoryTotal: i.GetMemoryTotalBytes(), MemoryAvailable: i.GetMemoryAvailableBytes(),
		DiskTotal: i.GetDiskTotalBytes(), DiskFree: i.GetDiskFreeBytes(),
		Processes: int(i.GetTasks()), Executions: int(i.GetRunningExecs()), Uptime: i.GetUptime().AsDuration(),
	}
	return d, nil
}
