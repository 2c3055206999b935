// SPDX-License-Identifier: Apache-2.0

package supervisor_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/proto"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// backend is a vm.Backend whose machines are goroutines of the test: a guest
// agent without a guest, as real as the supervisor can tell.
type backend struct {
	startErr error
	mute     bool // never calls the host
	protocol uint32
	// onConsole is what the guest prints at once.
	onConsole string
	// deaf guests do not answer Shutdown until their power is cut.
	deaf bool
	// plain guests do not own their machine.
	plain bool
	// fillsDisk has the host's disk full when the machine starts.
	fillsDisk bool
	// stuck machines are not resumed.
	stuck atomic.Bool

	idle    atomic.Int64 // what Info says, ns
	running atomic.Uint32
	// clockOff is how wrong the guest's clock is, ns; asked counts Infos.
	clockOff atomic.Int64
	asked    atomic.Int64
	// shutdowns counts what was asked to end.
	shutdowns atomic.Int64
	// configured gets what Configure was told.
	configured chan *guestv1.SystemConfigureRequest

	mu   sync.Mutex
	last *fakeVM
}

func newBackend() *backend {
	return &backend{protocol: proto.GuestProtocolMax, configured: make(chan *guestv1.SystemConfigureRequest, 4)}
}

func (b *backend) Name() string { return "fake" }

func (b *backend) machine() *fakeVM {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *backend) Start(_ context.Context, spec vm.Spec) (vm.Machine, error) {
	if b.startErr != nil {
		_ = spec.Guest.Close()
		return nil, b.startErr
	}
	m := &fakeVM{backend: b, spec: spec, power: make(chan error, 1), done: make(chan struct{})}
	b.mu.Lock()
	b.last = m
	b.mu.Unlock()
	go m.run()
	return m, nil
}

type fakeVM struct {
	guestv1connect.UnimplementedSystemHandler
	backend *backend
	spec    vm.Spec
	power   chan error // why it goes
	done    chan struct{}
	err     error
}

func (m *fakeVM) PID() int { return os.Getpid() }

// Resume does what a VMM does that finds space.
func (m *fakeVM) Resume() error {
	if !m.backend.stuck.Load() {
		m.spec.Paused(false)
	}
	return nil
}

func (m *fakeVM) Done() <-chan struct{} { return m.done }

func (m *fakeVM) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

func (m *fakeVM) end(why error) {
	select {
	case m.power <- why:
	default:
	}
}

func (m *fakeVM) Stop(ctx context.Context) error {
	m.end(vm.ErrStopped)
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *fakeVM) run() {
	defer close(m.done)
	mux := http.NewServeMux()
	mux.Handle(guestv1connect.NewSystemHandler(m))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: mux, Protocols: &protocols}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(m.spec.Guest) })
	fmt.Fprint(m.spec.Console, m.backend.onConsole)
	if m.backend.fillsDisk {
		m.spec.Paused(true)
	}
	host, guest := net.Pipe()
	if !m.backend.mute {
		wg.Go(func() { m.call(guest) })
		m.spec.Ready(host)
	}
	m.err = <-m.power
	_ = guest.Close()
	_ = srv.Close()
	wg.Wait()
	if m.spec.NIC != nil {
		_ = m.spec.NIC.Conn.Close()
	}
}

// call is the guest's side of the ready handshake.
func (m *fakeVM) call(conn net.Conn) {
	_, _ = protodelim.MarshalTo(conn, &guestv1.Ready{
		Agent: &guestv1.AgentInfo{
			Version: "v1.2.3\x1b[2J", ProtocolMin: m.backend.protocol, ProtocolMax: m.backend.protocol, OwnsMachine: !m.backend.plain,
		},
		BootPhases: []*guestv1.BootPhase{{Name: "kernel", Duration: durationpb.New(time.Second)}},
	})
	_ = protodelim.UnmarshalFrom(bufio.NewReader(conn), &guestv1.Welcome{})
	_ = conn.Close()
}

func (m *fakeVM) Configure(
	_ context.Context, req *connect.Request[guestv1.SystemConfigureRequest],
) (*connect.Response[guestv1.SystemConfigureResponse], error) {
	m.backend.configured <- req.Msg
	return connect.NewResponse(&guestv1.SystemConfigureResponse{}), nil
}

func (m *fakeVM) Info(
	context.Context, *connect.Request[guestv1.SystemInfoRequest],
) (*connect.Response[guestv1.SystemInfoResponse], error) {
	m.backend.asked.Add(1)
	return connect.NewResponse(&guestv1.SystemInfoResponse{
		Now:          timestamppb.New(time.Now().Add(time.Duration(m.backend.clockOff.Load()))),
		RunningExecs: m.backend.running.Load(),
		Idle:         durationpb.New(time.Duration(m.backend.idle.Load())),
	}), nil
}

func (m *fakeVM) Shutdown(
	ctx context.Context, _ *connect.Request[guestv1.SystemShutdownRequest],
) (*connect.Response[guestv1.SystemShutdownResponse], error) {
	if m.backend.deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	m.backend.shutdowns.Add(1)
	defer m.end(vm.ErrPoweredOff)
	return connect.NewResponse(&guestv1.SystemShutdownResponse{}), nil
}

var errBoom = errors.New("qemu: out of memory")
