// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stacklok/waggle/host/supervisor"
)

// stopGrace is the time for an orderly shutdown before the power is cut: the
// disks of an environment are thrown away, so nothing is lost by a short one.
const stopGrace = 2 * time.Second

// stopTimeout bounds a destroy. It does not depend on the caller's context: a
// client that hangs up must not leave half an environment.
const stopTimeout = 30 * time.Second

// Destroy ends an environment with all that is in it, and returns when nothing
// of it is left. One that is being created is aborted. Of two calls at the same
// time one ends it and the other is told that it is stopping.
func (m *Manager) Destroy(ctx context.Context, id string) error {
	e, err := m.find(id)
	if err != nil {
		return err
	}
	e.abort(errDestroyed)
	select {
	case <-e.settled:
	case <-ctx.Done():
		return fmt.Errorf("destroy %s: %w", id, context.Cause(ctx))
	}
	e.mu.Lock()
	if e.info.State == StateGone { // Create gave up, or the machine ended just now
		e.mu.Unlock()
		return nil
	}
	if e.info.State == StateCreating { // adopted in the middle of its boot
		e.info.State = StateFailed
	}
	if err := e.setLocked(StateStopping, "it was destroyed"); err != nil {
		e.mu.Unlock()
		return err
	}
	machine := e.machine
	e.mu.Unlock()

	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	_, err = machine.Stop(stopCtx, stopGrace, "destroy_environment")
	if err == nil || errors.Is(err, supervisor.ErrGone) {
		// A machine that crashed has left its logs, and more if its supervisor
		// was killed.
		err = supervisor.Discard(stopCtx, machine.Dir())
	}
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.info.State == StateGone { // the watcher saw the end first
			return nil
		}
		if serr := e.setLocked(StateFailed, "it could not be stopped: "+err.Error()); serr != nil {
			return serr
		}
		return fmt.Errorf("%w: %s: %w", ErrDestroy, id, err)
	}
	m.log.Info("environment destroyed", "env", id)
	m.bury(e, "it was destroyed")
	return nil
}
