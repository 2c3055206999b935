// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stacklok/waggle/host/supervisor"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

const (
	// probeTimeout is how long a supervisor has to answer after its stream broke.
	probeTimeout = 5 * time.Second
	// rewatchPause spaces the attempts to follow one that does answer.
	rewatchPause = time.Second
)

// causes are what becomes of an environment whose machine ended by itself.
var causes = map[hostv1.EndCause]string{
	hostv1.EndCause_END_CAUSE_STOPPED:  "it was stopped",
	hostv1.EndCause_END_CAUSE_IDLE:     "nothing ran in it for its idle timeout",
	hostv1.EndCause_END_CAUSE_LIFETIME: "it reached its maximum lifetime",
	hostv1.EndCause_END_CAUSE_ORPHANED: "no server owned it for the orphan timeout",
}

// watch follows a machine until it has ended or the manager closes. The stream
// makes this server its holder.
func (m *Manager) watch(e *environment, machine *supervisor.Client) {
	m.wg.Go(func() {
		for {
			ended := false
			err := machine.Wait(m.ctx, m.cfg.Holder, func(s *hostv1.State) bool {
				ended = m.follow(e, s)
				return !ended
			})
			if ended || m.ctx.Err() != nil {
				return
			}
			probeCtx, cancel := context.WithTimeout(m.ctx, probeTimeout)
			_, probe := machine.Info(probeCtx)
			cancel()
			if m.ctx.Err() != nil {
				return
			}
			if probe != nil {
				// The machine dies with its supervisor.
				cause := "its supervisor was killed, and its machine with it"
				if !errors.Is(probe, supervisor.ErrGone) {
					cause = fmt.Sprintf("its supervisor does not answer (%v)", probe)
				}
				m.fail(e, cause)
				return
			}
			m.log.Warn("stream of supervisor broke, following again", "env", e.id, "error", err)
			select {
			case <-m.ctx.Done():
				return
			case <-time.After(rewatchPause):
			}
		}
	})
}

// follow takes one state of the machine. It reports true for the last one.
func (m *Manager) follow(e *environment, s *hostv1.State) bool {
	switch s.GetPhase() {
	case hostv1.Phase_PHASE_RUNNING:
		e.mu.Lock()
		defer e.mu.Unlock()
		// Only one that was adopted in the middle of its boot is not there yet.
		if e.info.State == StateCreating {
			_ = e.setLocked(StateRunning, "")
		}
		m.pause(e, plain(s.GetPaused(), maxGuestText))
	case hostv1.Phase_PHASE_STOPPING:
		e.mu.Lock()
		defer e.mu.Unlock()
		// One that crashed is cleaned up now; it fails when that is done.
		if cause, orderly := causes[s.GetCause()]; orderly && e.info.State == StateRunning {
			_ = e.setLocked(StateStopping, cause)
		}
	case hostv1.Phase_PHASE_ENDED:
		cause, orderly := causes[s.GetCause()]
		if !orderly {
			m.fail(e, "its machine ended by itself: "+plain(s.GetMessage(), maxGuestText))
			return true
		}
		m.log.Info("environment has ended", "env", e.id, "cause", cause)
		m.bury(e, cause)
		return true
	default:
	}
	return false
}

// pause ends the calls on a machine that stands still, and takes none until it goes
// on. e.mu is held.
func (m *Manager) pause(e *environment, why string) {
	switch {
	case e.info.State != StateRunning:
	case why != "" && e.moving.Err() == nil:
		m.log.Warn("environment stands still", "env", e.id, "why", why)
		e.info.Cause = why
		e.halt(fmt.Errorf("%w: %s", ErrPaused, why))
	case why == "" && e.moving.Err() != nil:
		m.log.Info("environment goes on", "env", e.id)
		e.info.Cause = ""
		e.moving, e.halt = context.WithCancelCause(context.Background())
	}
}

// fail keeps an environment on the list, with its cause, and frees its slot. One
// that is being destroyed is not kept: its machine was to end anyway.
func (m *Manager) fail(e *environment, cause string) {
	e.mu.Lock()
	if e.info.State == StateStopping {
		e.mu.Unlock()
		m.bury(e, cause)
		return
	}
	if err := e.setLocked(StateFailed, cause); err != nil {
		m.log.Debug("machine ended after its environment", "env", e.id, "error", err)
	} else {
		m.log.Warn("environment failed", "env", e.id, "cause", cause)
	}
	e.mu.Unlock()
	m.forgetFailed()
}

// forgetFailed bounds the failed environments that nobody destroys.
func (m *Manager) forgetFailed() {
	var failed []Info
	for _, info := range m.List(context.Background()) {
		if info.State == StateFailed {
			failed = append(failed, info)
		}
	}
	for len(failed) > maxEndings {
		if e, err := m.find(context.Background(), failed[0].ID); err == nil {
			m.bury(e, failed[0].Cause)
		}
		failed = failed[1:]
	}
}
