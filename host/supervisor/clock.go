// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// clockEvery is how often the guest's clock is compared with the host's.
	clockEvery = 15 * time.Second
	// clockLook is how often the host's clock is looked at for a jump.
	clockLook = 2 * time.Second
	// clockJump is a jump of the host's clock against its monotonic one: it has
	// slept, or was set. The guest has not seen it, and TLS fails there.
	clockJump = 500 * time.Millisecond
	// clockTolerance is how far the guest's clock may be off.
	clockTolerance = 250 * time.Millisecond
	// clockTimeout bounds one comparison.
	clockTimeout = 5 * time.Second
)

// keepClock holds the guest's wall clock at the host's until ctx ends. A guest
// that does not answer is asked again later: whether it lives is not asked here.
func (s *supervisor) keepClock(ctx context.Context, client *guest.Client) {
	every := s.cfg.ClockEvery
	if every <= 0 {
		every = clockEvery
	}
	look := time.NewTicker(min(clockLook, every))
	defer look.Stop()
	last, compared := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		now := time.Now()
		jump := now.Round(0).Sub(last.Round(0)) - now.Sub(last) // wall against monotonic
		last = now
		if jump.Abs() < clockJump && now.Sub(compared) < every {
			continue
		}
		compared = now
		off, err := s.correctClock(ctx, client)
		switch {
		case err != nil:
			s.log.Debug("guest's clock was not compared", slog.Any("error", err))
		case off != 0:
			s.log.Info("guest's clock was corrected", slog.Duration("off", off))
		}
	}
}

// correctClock sets the guest's clock when it is off, and returns by how much.
func (s *supervisor) correctClock(ctx context.Context, client *guest.Client) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	asked := time.Now()
	info, err := client.Info(ctx)
	if err != nil {
		return 0, err
	}
	if !info.GetNow().IsValid() {
		return 0, nil // it does not say
	}
	// The answer was true at some moment between the question and now.
	half := time.Since(asked) / 2
	off := info.GetNow().AsTime().Sub(asked.Add(half).Round(0))
	if off.Abs() <= clockTolerance+half {
		return 0, nil
	}
	return off, client.Configure(ctx, &guestv1.SystemConfigureRequest{Clock: timestamppb.Now()})
}
