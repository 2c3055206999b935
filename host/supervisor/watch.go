// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/vm"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

const (
	// askTimeout bounds the question whether the guest is idle.
	askTimeout = 20 * time.Second
	// maxSilent is how often in a row the guest may leave it unanswered. Each
	// time costs askTimeout, so a guest short of memory has a minute to recover.
	maxSilent = 3
	// minRecheck is the least time between two questions.
	minRecheck = 50 * time.Millisecond
)

// watch keeps the limits of a machine that runs, until something ends it.
func (s *supervisor) watch(m *machine) ending {
	clockCtx, stopClock := context.WithCancel(s.stopping)
	var clock sync.WaitGroup
	if m.owned { // else the clock is somebody else's
		clock.Go(func() { s.keepClock(clockCtx, m.client) })
	}
	defer clock.Wait()
	defer stopClock()

	idle := after(s.spec.IdleTimeout)
	defer idle.Stop()
	lifetime := after(s.spec.MaxLifetime)
	if s.spec.MaxLifetime > 0 {
		lifetime.Reset(max(0, time.Until(s.record.CreatedAt.Add(s.spec.MaxLifetime))))
	}
	defer lifetime.Stop()
	orphan := after(0)
	defer orphan.Stop()
	s.armOrphan(orphan)

	retry := time.NewTicker(pauseLook)
	defer retry.Stop()
	var resumed time.Time
	silent := 0
	for {
		select {
		case <-m.vm.Done():
			return crashed(m.vm.Err())
		case <-s.stopping.Done():
			return s.request
		case <-lifetime.C:
			return ending{hostv1.EndCause_END_CAUSE_LIFETIME,
				fmt.Sprintf("it reached its maximum lifetime of %s", s.spec.MaxLifetime), limitGrace}
		case <-s.holders.changed:
			s.armOrphan(orphan)
		case <-orphan.C:
			if _, alone := s.holders.alone(); alone {
				return ending{hostv1.EndCause_END_CAUSE_ORPHANED,
					fmt.Sprintf("no server owned it for %s", s.spec.OrphanTimeout), limitGrace}
			}
		case <-s.pause.changed:
			s.enterPause()
		case <-retry.C:
			resumed = s.tryResume(m, resumed)
		case <-idle.C:
			if s.pause.now() {
				idle.Reset(s.spec.IdleTimeout) // it cannot answer
				continue
			}
			left, err := s.idleLeft(m.client)
			switch {
			case err == nil && left <= 0:
				return ending{hostv1.EndCause_END_CAUSE_IDLE,
					fmt.Sprintf("nothing ran in it for %s", s.spec.IdleTimeout), limitGrace}
			case err == nil:
				silent = 0
			default:
				silent++
				left = minRecheck
				s.log.Warn("guest does not say whether it is idle", slog.Any("error", err), slog.Int("times", silent))
				if silent >= maxSilent && s.stopping.Err() == nil {
					return ending{cause: hostv1.EndCause_END_CAUSE_CRASHED, message: "its agent no longer answers: " + err.Error()}
				}
			}
			idle.Reset(max(left, minRecheck))
		}
	}
}

// idleLeft asks the guest how long it may still be idle; zero or less when the
// time is up. While something runs, that is the whole timeout.
func (s *supervisor) idleLeft(client *guest.Client) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(s.stopping, askTimeout)
	defer cancel()
	info, err := client.Info(ctx)
	if err != nil {
		return 0, err
	}
	if info.GetRunningExecs() > 0 || info.GetActiveCalls() > 0 {
		return s.spec.IdleTimeout, nil
	}
	return s.spec.IdleTimeout - max(0, info.GetIdle().AsDuration()), nil
}

// armOrphan sets the timer to when the machine will have been alone for too
// long.
func (s *supervisor) armOrphan(timer *time.Timer) {
	since, alone := s.holders.alone()
	if !alone || s.spec.OrphanTimeout <= 0 {
		timer.Stop()
		return
	}
	timer.Reset(max(0, time.Until(since.Add(s.spec.OrphanTimeout))))
}

// after returns a timer that fires after d, never when d is zero.
func after(d time.Duration) *time.Timer {
	if d > 0 {
		return time.NewTimer(d)
	}
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func crashed(err error) ending {
	e := ending{cause: hostv1.EndCause_END_CAUSE_CRASHED}
	switch {
	case errors.Is(err, vm.ErrPoweredOff):
		e.message = "the guest powered itself off"
	case err != nil:
		e.message = err.Error()
	default:
		e.message = "the VMM ended"
	}
	return e
}
