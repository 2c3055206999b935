// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"fmt"
	"path"
	"strings"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/guestd/process/spawn"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	maxProbes  = 64
	maxProgram = 1 << 10 // bytes
)

// Probe says what a command gets that names nothing but its program.
func (s *Service) Probe(
	_ context.Context, req *connect.Request[guestv1.ProcessProbeRequest],
) (*connect.Response[guestv1.ProcessProbeResponse], error) {
	programs := req.Msg.GetPrograms()
	if len(programs) > maxProbes {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("programs: has %d, at most %d are allowed", len(programs), maxProbes))
	}
	for _, p := range programs {
		if p == "" || len(p) > maxProgram || strings.ContainsRune(p, 0) || strings.Contains(p, "/") && !path.IsAbs(p) {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("programs: %.64q is neither a name nor an absolute path", p))
		}
	}
	cmd, err := s.cfg.Defaults.command(&guestv1.Start{})
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	res := &guestv1.ProcessProbeResponse{
		User: cmd.User.Name, Uid: cmd.User.UID, Gid: cmd.User.GID, Home: cmd.User.Home, Cwd: cmd.Dir,
		Programs: make(map[string]string),
	}
	for _, p := range programs {
		if file := spawn.Find(p, cmd); file != "" {
			res.Programs[p] = file
		}
	}
	return connect.NewResponse(res), nil
}
