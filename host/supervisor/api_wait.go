// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"log/slog"

	"connectrpc.com/connect"

	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// Wait sends the state now and each that follows.
func (a api) Wait(
	ctx context.Context, req *connect.Request[hostv1.SupervisorWaitRequest],
	stream *connect.ServerStream[hostv1.SupervisorWaitResponse],
) error {
	if holder := clip(req.Msg.GetHolder()); holder != "" {
		a.log.Info("held", slog.String("by", holder))
		release := a.holders.add(holder)
		defer release()
	}
	_, i := a.history.last()
	for {
		var state *hostv1.State
		var err error
		state, i, err = a.history.at(ctx, i)
		if err != nil {
			return err
		}
		if err := stream.Send(&hostv1.SupervisorWaitResponse{State: state}); err != nil {
			return err
		}
		if state.GetPhase() == hostv1.Phase_PHASE_ENDED {
			return nil
		}
	}
}
