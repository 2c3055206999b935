// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// maxGrace is the longest orderly shutdown.
const maxGrace = 60 * time.Second

// Stop ends the machine. A client that goes away does not take the request back.
func (a api) Stop(
	ctx context.Context, req *connect.Request[hostv1.SupervisorStopRequest],
) (*connect.Response[hostv1.SupervisorStopResponse], error) {
	grace := req.Msg.GetGrace().AsDuration()
	if grace < 0 || grace > maxGrace {
		return nil, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("grace is %s: give 0 to %s", grace, maxGrace))
	}
	reason := clip(req.Msg.GetReason())
	a.log.Info("stop", slog.String("reason", reason), slog.Duration("grace", grace))
	a.ask(ending{hostv1.EndCause_END_CAUSE_STOPPED, reason, grace})
	state, err := a.history.end(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&hostv1.SupervisorStopResponse{State: state}), nil
}
