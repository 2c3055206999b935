// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Get returns what is known of one exec.
func (s *Service) Get(_ context.Context, req *connect.Request[guestv1.ProcessGetRequest]) (*connect.Response[guestv1.ProcessGetResponse], error) {
	x, err := s.find(req.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&guestv1.ProcessGetResponse{Exec: x.info()}), nil
}
