// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"fmt"
)

// sameKeyLocked finds the environment that an earlier call with the key of req has made
// or is making. m.mu is held.
func (m *Manager) sameKeyLocked(req Request) (*environment, error) {
	if req.Key == "" {
		return nil, nil
	}
	for _, e := range m.envs {
		if e.key != req.Key || e.owner != req.Owner || !e.snapshot().State.holdsSlot() {
			continue
		}
		if e.keySum != req.KeySum {
			return nil, invalid("idempotency_key", "%s was given with other parameters before, for %s: use another key, or the same parameters", req.Key, e.id)
		}
		return e, nil
	}
	return nil, nil
}

// await returns when an environment that somebody else creates takes calls.
func (m *Manager) await(ctx context.Context, e *environment) (Info, error) {
	for {
		e.mu.Lock()
		info, changed := e.info, e.changed
		e.mu.Unlock()
		switch info.State {
		case StateRunning:
			return info, nil
		case StateCreating:
		default:
			return Info{}, fmt.Errorf("%w: the call with the same idempotency_key: %s", ErrCreate, info.Cause)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Info{}, fmt.Errorf("wait for %s: %w", e.id, context.Cause(ctx))
		}
	}
}
