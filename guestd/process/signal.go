// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/reap"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Signal sends a signal, or with terminate begins to end the exec; the end is
// seen on a stream or by Get.
func (s *Service) Signal(ctx context.Context, req *connect.Request[guestv1.ProcessSignalRequest]) (*connect.Response[guestv1.ProcessSignalResponse], error) {
	msg := req.Msg
	if msg.GetTerminate() {
		if msg.GetSignal() != 0 {
			return nil, invalid("signal", "must be 0 with terminate")
		}
	} else if err := checkSignal(msg.GetSignal()); err != nil {
		return nil, err
	}
	x, err := s.find(msg.GetExecId())
	if err != nil {
		return nil, err
	}
	select {
	case <-x.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if msg.GetTerminate() {
		if !x.alive() {
			return nil, errEnded(x)
		}
		x.requestEnd()
	} else if err := x.signal(unix.Signal(msg.GetSignal()), msg.GetAll()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&guestv1.ProcessSignalResponse{}), nil
}

// signal sends a signal to the main process or to all; to all as well when the main
// one has left them behind. It may be called after ready is closed.
func (x *execution) signal(sig unix.Signal, all bool) error {
	if !x.alive() {
		return errEnded(x)
	}
	x.mu.Lock()
	x.sent[sig] = true
	all = all || x.main != nil
	x.mu.Unlock()
	var err error
	switch {
	case all && sig == unix.SIGKILL:
		err = x.family.Kill() // leaves no gap for forks
	case all:
		err = x.family.Signal(sig)
	default:
		err = x.child.Signal(sig)
	}
	if errors.Is(err, reap.ErrEnded) {
		return errEnded(x)
	}
	if err != nil {
		return connect.NewError(connect.CodeInternal, err)
	}
	return nil
}

func errEnded(x *execution) error {
	return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("exec_id: exec %q has ended", x.id))
}
