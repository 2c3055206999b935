// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"fmt"
	"time"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/supervisor"
)

// stopGrace is the time for an orderly shutdown before the power is cut: the
// disks of an environment are thrown away, so nothing is lost by a short one.
const stopGrace = 2 * time.Second

// stopTimeout bounds a destroy. It does not depend on the caller's context: a
// client that hangs up must not leave half an environment.
const stopTimeout = 30 * time.Second

// Destroy ends an environment with all that is in it, and returns when nothing
// of it is left. One that is being created is aborted. Of several calls at the
// same time one ends it, and the others return when it has.
func (m *Manager) Destroy(ctx context.Context, id string) error {
	e, err := m.find(ctx, id)
	if err != nil {
		return err
	}
	e.abort(errDestroyed)
	select {
	case <-e.settled:
	case <-ctx.Done():
		return fmt.Errorf("destroy %s: %w", id, context.Cause(ctx))
	}
	machine, err := e.take(ctx)
	if machine == nil || err != nil {
		return err
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err = machine.End(stopCtx, stopGrace, "destroy_environment"); err == nil {
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
		if serr := e.setLocked(StateFailed, "it could not be stopped: "+guest.Text(err)); serr != nil {
			return serr
		}
		return fmt.Errorf("%w: %s: %w", ErrDestroy, id, err)
	}
	m.log.Info("environment destroyed", "env", id)
	m.bury(e, "it was destroyed")
	return nil
}

// take begins the end of an environment and returns its machine, or nil when there
// is none any more: it ended by itself, or somebody else has destroyed it, for whom
// take waits.
func (e *environment) take(ctx context.Context) (*supervisor.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.info.State == StateStopping {
		changed := e.changed
		e.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		e.mu.Lock()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("destroy %s: %w", e.id, context.Cause(ctx))
		}
	}
	if e.info.State == StateGone {
		return nil, nil
	}
	if e.info.State == StateCreating { // adopted in the middle of its boot
		e.info.State = StateFailed
	}
	return e.machine, e.setLocked(StateStopping, "it was destroyed")
}
