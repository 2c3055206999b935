// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"slices"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// List returns all execs that run or are kept, oldest first.
func (s *Service) List(context.Context, *connect.Request[guestv1.ProcessListRequest]) (*connect.Response[guestv1.ProcessListResponse], error) {
	s.expire()
	s.mu.Lock()
	order := slices.Clone(s.order)
	s.mu.Unlock()
	res := &guestv1.ProcessListResponse{}
	for _, x := range order {
		res.Execs = append(res.Execs, x.info())
	}
	return connect.NewResponse(res), nil
}
