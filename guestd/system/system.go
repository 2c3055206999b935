// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stacklok/waggle/guestd/boot"
	"github.com/stacklok/waggle/guestd/cgroup"
	"github.com/stacklok/waggle/guestd/process"
	"github.com/stacklok/waggle/proto"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
	"github.com/stacklok/waggle/version"
)

// Meter knows what uses the machine. Its method may be called concurrently.
type Meter interface {
	// Activity returns the calls that run, and the time since the last call or
	// exec ended, zero while one runs.
	Activity() (calls int, idle time.Duration)
}

// Service answers System. Its methods may be called concurrently.
type Service struct {
	guestv1connect.UnimplementedSystemHandler
	cfg Config

	end    sync.Once
	ending chan struct{}

	configuring   sync.Mutex // one Configure at a time; guards what follows
	env, trustEnv map[string]string
}

// Config is what a Service works with. All but Machine and Tree is required.
type Config struct {
	// Machine is nil when guestd does not own the machine.
	Machine *boot.Machine
	Meter   Meter
	// Defaults is shared with the Process service.
	Defaults *process.Defaults
	Execs    *process.Service
	// Tree holds the control groups of execs; nil without cgroup v2.
	Tree *cgroup.Tree
	Log  *slog.Logger
}

// New returns a Service.
func New(cfg Config) *Service { return &Service{cfg: cfg, ending: make(chan struct{})} }

// Ending is closed when a client asked for the end of the machine.
func (s *Service) Ending() <-chan struct{} { return s.ending }

var (
	errNotFirst  = errors.New("this guestd does not own the machine: it is not its first process")
	errNoMachine = connect.NewError(connect.CodeFailedPrecondition, errNotFirst)
)

// Agent describes this guestd. m may be nil.
func Agent(m *boot.Machine) *guestv1.AgentInfo {
	agent := &guestv1.AgentInfo{
		Version:     version.String(),
		ProtocolMin: proto.GuestProtocolMin,
		ProtocolMax: proto.GuestProtocolMax,
		OwnsMachine: m != nil,
	}
	if m == nil {
		return agent
	}
	switch m.Origin() {
	case boot.OriginHost:
		agent.Origin = guestv1.AgentOrigin_AGENT_ORIGIN_HOST
	case boot.OriginImage:
		agent.Origin = guestv1.AgentOrigin_AGENT_ORIGIN_IMAGE
	}
	return agent
}

// Phases are the boot phases of a machine. m may be nil.
func Phases(m *boot.Machine) []*guestv1.BootPhase {
	if m == nil {
		return nil
	}
	var phases []*guestv1.BootPhase
	for _, p := range m.Phases() {
		phases = append(phases, &guestv1.BootPhase{Name: p.Name, Duration: durationpb.New(p.Duration)})
	}
	return phases
}
