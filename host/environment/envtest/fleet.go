// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/supervisor"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/host/v1/hostv1connect"
)

// ImageDir is the working directory of a machine of an image.
const ImageDir = "/srv"

// Fleet launches machines below one directory and ends them with the test.
type Fleet struct {
	t   testing.TB
	dir string

	mu       sync.Mutex
	machines map[string]*Machine
	// block, when not nil, holds every launch until it is closed.
	block chan struct{}
	fail  error
	has   map[string]string
}

// NewFleet returns an empty fleet.
func NewFleet(t testing.TB) *Fleet {
	t.Helper()
	// Not t.TempDir: its paths are too long for a socket.
	dir, err := os.MkdirTemp("", "wf")
	require.NoError(t, err)
	f := &Fleet{t: t, dir: dir, machines: map[string]*Machine{}}
	t.Cleanup(func() {
		for _, m := range f.all() {
			m.Crash()
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	return f
}

// Block makes launches wait until the function that it returns is called.
func (f *Fleet) Block() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.block = make(chan struct{})
	return sync.OnceFunc(func() { close(f.block) })
}

// Fail makes launches fail with err.
func (f *Fleet) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// Has makes the machines that start from now on say which programs they have, with
// their paths. By default they cannot say, as an older guestd.
func (f *Fleet) Has(programs map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.has = programs
}

// Launch is a Config.Launch.
func (f *Fleet) Launch(ctx context.Context, req environment.Request, progress func(string)) (*supervisor.Client, error) {
	f.mu.Lock()
	block, fail, has := f.block, f.fail, f.has
	f.mu.Unlock()
	progress("starting")
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if fail != nil {
		return nil, fail
	}
	progress("booting")
	m, err := start(filepath.Join(f.dir, req.ID), req, has)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.machines[req.ID] = m
	f.mu.Unlock()
	return supervisor.Attach(m.dir)
}

// Attach returns clients of all machines that run.
func (f *Fleet) Attach() []*supervisor.Client {
	var clients []*supervisor.Client
	for _, m := range f.all() {
		if c, err := supervisor.Attach(m.dir); err == nil {
			clients = append(clients, c)
		}
	}
	return clients
}

// Machine returns a machine by its id.
func (f *Fleet) Machine(id string) *Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Contains(f.t, f.machines, id)
	return f.machines[id]
}

func (f *Fleet) all() []*Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*Machine
	for _, m := range f.machines {
		all = append(all, m)
	}
	return all
}

// Machine is one machine. Its methods may be called concurrently.
type Machine struct {
	hostv1connect.UnimplementedSupervisorHandler
	dir, root string
	req       environment.Request
	has       map[string]string // nil: it cannot say
	created   time.Time
	servers   []*http.Server
	wg        sync.WaitGroup
	diskFull  atomic.Bool
	process   *process

	mu      sync.Mutex
	state   *hostv1.State
	changed chan struct{} // closed and replaced with each state
	holders []string
}

// FillDisk makes every write outside of /tmp fail.
func (m *Machine) FillDisk() { m.diskFull.Store(true) }

func start(dir string, req environment.Request, has map[string]string) (*Machine, error) {
	m := &Machine{
		dir: dir, root: filepath.Join(dir, "root"), req: req, has: has, created: time.Now(),
		state: &hostv1.State{Phase: hostv1.Phase_PHASE_RUNNING}, changed: make(chan struct{}),
	}
	for _, dir := range []string{environment.Home, ImageDir, "/tmp"} {
		if err := os.MkdirAll(m.path(dir), 0o700); err != nil {
			return nil, fmt.Errorf("make home: %w", err)
		}
	}
	m.process = newProcess(m)
	control, agent := http.NewServeMux(), http.NewServeMux()
	control.Handle(hostv1connect.NewSupervisorHandler(m))
	agent.Handle(guestv1connect.NewProcessHandler(m.process))
	agent.Handle(guestv1connect.NewFilesystemHandler(&filesystem{m: m}))
	agent.Handle(guestv1connect.NewPackagesHandler(&packages{}))
	agent.Handle(guestv1connect.NewSystemHandler(system{}))
	for name, h := range map[string]http.Handler{"supervisor.sock": control, "guestd.sock": agent} {
		ln, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			m.Crash()
			return nil, fmt.Errorf("listen: %w", err)
		}
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		srv := &http.Server{Handler: h, Protocols: protocols, ReadHeaderTimeout: time.Minute}
		m.servers = append(m.servers, srv)
		m.wg.Go(func() { _ = srv.Serve(ln) })
	}
	return m, nil
}

// path is where a path of the guest lies. Its /proc is the host's, whose files have
// no size.
func (m *Machine) path(p string) string {
	p = filepath.Clean("/" + p)
	if strings.HasPrefix(p, "/proc/") {
		return p
	}
	return filepath.Join(m.root, p)
}

// Crash ends supervisor and guest without a word.
func (m *Machine) Crash() {
	for _, s := range m.servers {
		_ = s.Close()
	}
	m.process.close()
	m.wg.Wait()
	_ = os.RemoveAll(m.dir)
}

// End ends the machine in order, as its supervisor does on its own account.
func (m *Machine) End(cause hostv1.EndCause, message string) {
	m.set(&hostv1.State{Phase: hostv1.Phase_PHASE_ENDED, Cause: cause, Message: message})
}

// Stopping says that the machine ends now.
func (m *Machine) Stopping(cause hostv1.EndCause, message string) {
	m.set(&hostv1.State{Phase: hostv1.Phase_PHASE_STOPPING, Cause: cause, Message: message})
}

// Holders lists who has held the machine.
func (m *Machine) Holders() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.holders...)
}

func (m *Machine) set(s *hostv1.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	close(m.changed)
	m.changed = make(chan struct{})
}

// Info implements the Supervisor service.
func (m *Machine) Info(context.Context, *connect.Request[hostv1.SupervisorInfoRequest]) (*connect.Response[hostv1.SupervisorInfoResponse], error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return connect.NewResponse(&hostv1.SupervisorInfoResponse{
		ApiVersion: 1, Id: m.req.ID, Name: m.req.Name, Owner: m.req.Owner, Key: m.req.Key, KeySum: m.req.KeySum, Runtime: m.req.Runtime, Image: m.req.Image, State: m.state,
		ImageDigest: "sha256:0", GuestdOrigin: "host",
		CreatedAt: timestamppb.New(m.created), IdleTimeout: durationpb.New(m.req.IdleTimeout),
	}), nil
}

// Wait implements the Supervisor service.
func (m *Machine) Wait(ctx context.Context, req *connect.Request[hostv1.SupervisorWaitRequest], s *connect.ServerStream[hostv1.SupervisorWaitResponse]) error {
	m.mu.Lock()
	m.holders = append(m.holders, req.Msg.GetHolder())
	m.mu.Unlock()
	for {
		m.mu.Lock()
		state, changed := m.state, m.changed
		m.mu.Unlock()
		if err := s.Send(&hostv1.SupervisorWaitResponse{State: state}); err != nil {
			return err
		}
		if state.GetPhase() == hostv1.Phase_PHASE_ENDED {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stop implements the Supervisor service.
func (m *Machine) Stop(context.Context, *connect.Request[hostv1.SupervisorStopRequest]) (*connect.Response[hostv1.SupervisorStopResponse], error) {
	m.End(hostv1.EndCause_END_CAUSE_STOPPED, "stopped")
	_ = os.RemoveAll(m.root)
	m.mu.Lock()
	defer m.mu.Unlock()
	return connect.NewResponse(&hostv1.SupervisorStopResponse{State: m.state}), nil
}
