// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// system plays the System service.
type system struct {
	guestv1connect.UnimplementedSystemHandler
}

// Tunnel: nothing listens in a machine that is played.
func (system) Tunnel(context.Context, *connect.BidiStream[guestv1.SystemTunnelRequest, guestv1.SystemTunnelResponse]) error {
	return connect.NewError(connect.CodeUnavailable, errors.New("connection refused"))
}

// Info describes a machine of which half is used.
func (system) Info(context.Context, *connect.Request[guestv1.SystemInfoRequest]) (*connect.Response[guestv1.SystemInfoResponse], error) {
	return connect.NewResponse(&guestv1.SystemInfoResponse{
		Uptime:           durationpb.New(time.Minute),
		MemoryTotalBytes: 512 << 20, MemoryAvailableBytes: 256 << 20, DiskTotalBytes: 10 << 30, DiskFreeBytes: 5 << 30,
		Tasks: 60, RunningExecs: 1,
	}), nil
}
