// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/host/admin"
	"github.com/stacklok/waggle/host/environment"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
	"github.com/stacklok/waggle/version"
)

// What a server that takes no calls says.
const (
	startingUp = "the server is starting"
	endingDown = "the server is ending: it takes no new calls"
)

// serving is a server as /readyz and the admin API describe it.
type serving struct {
	cmd             *serveCmd
	manager         *environment.Manager
	lock            *admin.Lock
	backend         json.RawMessage
	on              choice
	runDir, dataDir string
	started         time.Time

	mu  sync.Mutex // guards what follows
	url string
	// shut says why it takes no calls; empty when it does.
	shut string
}

func newServing(
	c *serveCmd, manager *environment.Manager, lock *admin.Lock, backend json.RawMessage, on choice, runDir, dataDir string,
) *serving {
	return &serving{
		cmd: c, manager: manager, lock: lock, backend: backend, on: on, runDir: runDir, dataDir: dataDir,
		started: time.Now(), shut: startingUp,
	}
}

// listening says that calls are taken from now on.
func (s *serving) listening(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url, s.shut = url, ""
}

// open says whether calls are taken.
func (s *serving) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shut == ""
}

// ending says that no more are.
func (s *serving) ending() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = endingDown
}

// unready says why no environment could be made now.
func (s *serving) unready() []string {
	return unready(s.lock, s.runDir, s.dataDir, s.backend)
}

// ready is /readyz.
func (s *serving) ready(context.Context) error {
	if why := s.unready(); len(why) > 0 {
		return errors.New(strings.Join(why, "\n"))
	}
	return nil
}

// living counts the environments that have a machine.
func (s *serving) living() int {
	n := 0
	for _, info := range s.manager.List(context.Background()) {
		if info.State != environment.StateFailed {
			n++
		}
	}
	return n
}

// status is what the admin API answers.
func (s *serving) status(context.Context) *hostv1.AdminStatusResponse {
	c := s.cmd
	why := s.unready()
	s.mu.Lock()
	url, shut := s.url, s.shut
	s.mu.Unlock()
	if shut != "" {
		why = slices.Insert(why, 0, shut)
	}
	return &hostv1.AdminStatusResponse{
		Version: version.String(), McpUrl: url, StartedAt: timestamppb.New(s.started),
		Environments: uint32(s.living()), MaxEnvironments: uint32(s.manager.Max()), EnvironmentsByState: s.byState(),
		Ready: len(why) == 0, NotReady: why, RunDir: s.runDir, DataDir: s.dataDir,
		Backend: s.on.backend, Accelerator: s.on.accel, BackendReason: s.on.why,
		OrphanTimeout: durationpb.New(c.OrphanTimeout),
		Limits: &hostv1.EnvironmentLimits{
			Cpus: c.CPUs, MemoryMib: c.MemoryMB, DiskMib: c.DiskMB,
			IdleTimeout: durationpb.New(s.manager.IdleDefault()), ExecTimeout: durationpb.New(c.DefaultExecTimeout),
			MaxExecTimeout: durationpb.New(c.MaxExecTimeout),
		},
	}
}

// byState counts the environments, in the order of their life.
func (s *serving) byState() []*hostv1.EnvironmentCount {
	count := map[environment.State]uint32{}
	for _, info := range s.manager.List(context.Background()) {
		count[info.State]++
	}
	var all []*hostv1.EnvironmentCount
	for _, state := range []environment.State{
		environment.StateCreating, environment.StateRunning, environment.StateStopping, environment.StateFailed,
	} {
		if n := count[state]; n > 0 {
			all = append(all, &hostv1.EnvironmentCount{State: string(state), Count: n})
		}
	}
	return all
}
