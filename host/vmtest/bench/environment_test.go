// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/supervisor"
	"github.com/stacklok/waggle/host/vmtest"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// BenchmarkEnvironment measures the product as its users have it: server,
// supervisor and machine are the built programs.
func BenchmarkEnvironment(b *testing.B) {
	s := newSite(b)
	b.Run("create", s.benchCreate)

	e := s.create(b)
	defer e.destroy(b)
	for _, bench := range []struct {
		name string
		run  func(*testing.B, *environment)
	}{
		{"memory-start", benchMemoryStart},
		{"true", benchTrue},
		{"execute", benchExecute},
		{"file", benchFile},
		{"output", benchOutput},
		{"memory-end", benchMemoryEnd}, // last: after all that went through it
	} {
		b.Run(bench.name, func(b *testing.B) { bench.run(b, e) })
	}
}

// site is an installation whose server runs.
type site struct {
	in      *vmtest.Installation
	server  *vmtest.Server
	session *vmtest.Session
}

// environment is one that runs.
type environment struct {
	site    *site
	id      string
	machine *supervisor.Client
	// pids of the processes on the host.
	supervisor, vmm int
}

func newSite(b *testing.B) *site {
	b.Helper()
	in := vmtest.Install(b)
	server := in.Serve(b)
	return &site{in: in, server: server, session: server.Connect(b)}
}

// create makes a python environment.
func (s *site) create(b *testing.B) *environment {
	b.Helper()
	var made struct {
		ID string `json:"environment_id"`
	}
	s.session.Call(b, "create_environment", map[string]any{"runtime": "python"}, &made)
	machine, err := supervisor.Attach(filepath.Join(s.in.Run, made.ID))
	require.NoError(b, err)
	e := &environment{site: s, id: made.ID, machine: machine}
	info := e.info(b)
	e.supervisor, e.vmm = int(info.GetPid()), int(info.GetVmmPid())
	return e
}

func (e *environment) info(b *testing.B) *hostv1.SupervisorInfoResponse {
	b.Helper()
	info, err := e.machine.Info(b.Context())
	require.NoError(b, err)
	return info
}

// guest is the client of guestd; it keeps one connection.
func (e *environment) guest() *guest.Client { return e.machine.Guest() }

func (e *environment) destroy(b *testing.B) {
	b.Helper()
	require.NoError(b, e.machine.Close())
	var gone map[string]any
	e.site.session.Call(b, "destroy_environment", map[string]any{"environment_id": e.id}, &gone)
}
