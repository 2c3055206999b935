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
)

// Shutdown ends what runs and answers; the end of Serve then powers off.
func (s *Service) Shutdown(
	_ context.Context, req *connect.Request[guestv1.SystemShutdownRequest],
) (*connect.Response[guestv1.SystemShutdownResponse], error) {
	if s.machine == nil {
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
		s.log.Info("shutting down", slog.Duration("grace", grace))
		s.machine.EndProcesses(grace)
		close(s.ending)
	})
	return connect.NewResponse(&guestv1.SystemShutdownResponse{}), nil
}
