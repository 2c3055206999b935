// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"os"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
	"github.com/stacklok/waggle/version"
)

// maxBootPhases bounds what is taken over from the guest.
const maxBootPhases = 64

// Info describes the machine as it is now.
func (a api) Info(
	context.Context, *connect.Request[hostv1.SupervisorInfoRequest],
) (*connect.Response[hostv1.SupervisorInfoResponse], error) {
	state, _ := a.history.last()
	info := &hostv1.SupervisorInfoResponse{
		ApiVersion:    apiVersion,
		Version:       version.String(),
		Id:            a.spec.ID,
		Name:          a.spec.Name,
		Owner:         a.spec.Owner,
		Key:           a.spec.Key,
		KeySum:        a.spec.KeySum,
		Runtime:       a.spec.Runtime,
		Image:         a.spec.Image,
		ImageDigest:   a.spec.ImageDigest,
		Backend:       a.cfg.Backend.Name(),
		Accelerator:   a.cfg.Accelerator,
		State:         state,
		CreatedAt:     timestamppb.New(a.created),
		Pid:           int32(os.Getpid()),
		Cpus:          uint32(a.spec.CPUs),
		MemoryMib:     uint32(a.spec.MemoryMiB),
		DiskMib:       uint32(a.spec.DiskMiB),
		IdleTimeout:   durationpb.New(a.spec.IdleTimeout),
		MaxLifetime:   durationpb.New(a.spec.MaxLifetime),
		OrphanTimeout: durationpb.New(a.spec.OrphanTimeout),
		Holders:       a.holders.list(),
		ResidentBytes: residentBytes(),
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	info.VmmPid = int32(a.vmmPID)
	info.Timings = append(info.Timings, a.timings...)
	if a.peer == nil {
		return connect.NewResponse(info), nil
	}
	info.GuestdVersion = clip(a.peer.Ready.GetAgent().GetVersion())
	info.GuestdProtocol = a.peer.Protocol
	info.GuestdOrigin = origins[a.peer.Ready.GetAgent().GetOrigin()]
	info.GuestdNote = printed(a.peer.Ready.GetImageAgentRefused())
	phases := a.peer.Ready.GetBootPhases()
	for _, p := range phases[:min(len(phases), maxBootPhases)] {
		info.Timings = append(info.Timings, &hostv1.TimedPhase{Name: "guest: " + clip(p.GetName()), Duration: p.GetDuration()})
	}
	return connect.NewResponse(info), nil
}

// origins are the names of where a guestd came from.
var origins = map[guestv1.AgentOrigin]string{
	guestv1.AgentOrigin_AGENT_ORIGIN_HOST:  "host",
	guestv1.AgentOrigin_AGENT_ORIGIN_IMAGE: "image",
}

// maxNote bounds a sentence of the guest's, in bytes.
const maxNote = 1 << 10

// printed bounds and cleans a sentence of the guest's.
func printed(s string) string { return Printable(s[:min(len(s), maxNote)]) }

// clip bounds and cleans a name that the guest gave.
func clip(s string) string {
	return Printable(s[:min(len(s), 64)])
}
