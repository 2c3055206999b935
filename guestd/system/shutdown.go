// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	defaultGrace = 2 * time.Second
	maxGrace     = 60 * time.Second
	// endMargin is for the kernel to bury what was killed.
	endMargin = 2 * time.Second
)

// Shutdown ends what runs and answers; the end of Serve then powers off.
func (s *Service) Shutdown(
	ctx context.Context, req *connect.Request[guestv1.SystemShutdownRequest],
) (*connect.Response[guestv1.SystemShutdownResponse], error) {
	if s.cfg.Machine == nil {
		return nil, errNoMachine
	}
	grace := defaultGrace
	if d := req.Msg.GetGrace(); d != nil {
		grace = d.AsDuration()
		if !d.IsValid() || grace < 0 || grace > maxGrace {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("grace: want 0 to 60 s"))
		}
	}
	s.end.Do(func() {
		s.cfg.Log.Info("shutting down", slog.Duration("grace", grace))
		// A client that goes must not stop the end half way.
		endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace+endMargin)
		defer cancel()
		if err := s.cfg.Execs.Shutdown(endCtx, grace); err != nil {
			s.cfg.Log.Warn("execs outlive the shutdown", slog.Any("err", err))
		}
		close(s.ending)
	})
	return connect.NewResponse(&guestv1.SystemShutdownResponse{}), nil
}
