// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/host/egress"
	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/socket"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vsock"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

const (
	defaultBootTimeout = 15 * time.Second
	emulationFactor    = 4
)

// machine is what the supervisor holds for a machine. Run's goroutine owns it.
type machine struct {
	vm      vm.Machine
	network *egress.Network
	client  *guest.Client
	console *console
	scratch func() error // gives the scratch disk up; nil without one
	owned   bool         // guestd is configured, and the machine is its own to change
}

// release gives back what is left when the VMM has ended.
func (m *machine) release(log *slog.Logger) {
	if m.client != nil {
		_ = m.client.Close()
	}
	if m.network != nil {
		if err := m.network.Close(); err != nil {
			log.Warn("network not closed", slog.Any("error", err))
		}
	}
	if m.console != nil {
		if err := m.console.close(); err != nil {
			log.Warn("console log incomplete", slog.Any("error", err))
		}
	}
}

// boot makes the machine and returns when the guest serves. What it made before
// an error is in m.
func (s *supervisor) boot(m *machine) error {
	bootCtx, cancel := context.WithCancelCause(s.stopping)
	defer cancel(nil)
	limit := s.cfg.BootTimeout
	if limit == 0 {
		limit = defaultBootTimeout
	}
	if s.cfg.Emulated {
		limit *= emulationFactor
	}
	unhook := s.pause.onPause(func() { cancel(s.diskFull()) })
	defer unhook()
	still := newWatchdog(limit, cancel)
	defer still.stop()

	err := s.bootSteps(bootCtx, m, still)
	if err != nil && bootCtx.Err() != nil {
		cause := context.Cause(bootCtx)
		if errors.Is(cause, errNoProgress) || errors.Is(cause, errTooLong) {
			st, _ := s.history.last()
			cause = fmt.Errorf("%w within %s while %s", cause, limit, PhaseName(st.GetPhase()))
		}
		return cause
	}
	return err
}

func (s *supervisor) bootSteps(bootCtx context.Context, m *machine, still *watchdog) error {
	var err error
	if m.console, err = newConsole(s.cfg.Dir, still.touch); err != nil {
		return err
	}
	if s.spec.ScratchPath != "" {
		if err := s.step("scratch disk", func() (err error) {
			m.scratch, err = holdScratch(bootCtx, s.spec.ScratchPath, func() error {
				return s.cfg.Disks.Scratch(bootCtx, s.spec.ScratchPath, s.spec.DiskMiB)
			})
			return err
		}); err != nil {
			return err
		}
	}
	ready := newReady()
	defer ready.close()
	if err := s.step("vmm", func() error { return s.start(bootCtx, m, ready) }); err != nil {
		return err
	}
	still.touch()
	s.enter(&hostv1.State{Phase: hostv1.Phase_PHASE_BOOTING})
	var conn net.Conn
	if err := s.step("boot", func() (err error) {
		conn, err = ready.wait(bootCtx, m.vm)
		return err
	}); err != nil {
		return err
	}
	still.touch()
	s.enter(&hostv1.State{Phase: hostv1.Phase_PHASE_CONFIGURING})
	if err := s.step("configure", func() error { return s.configure(bootCtx, m, conn) }); err != nil {
		return err
	}
	s.enter(&hostv1.State{Phase: hostv1.Phase_PHASE_RUNNING})
	return nil
}

// start hands everything to the backend. The listener and the network's end are
// made last, because the backend owns them from its Start on.
func (s *supervisor) start(bootCtx context.Context, m *machine, ready *readySlot) error {
	spec := vm.Spec{
		ID: s.spec.ID, Dir: s.cfg.Dir, CPUs: s.spec.CPUs, MemoryMiB: s.spec.MemoryMiB,
		Ready: ready.take, Console: m.console, Paused: s.pause.set,
	}
	if s.spec.RootDisk != "" {
		spec.Disks = append(spec.Disks, vm.Disk{Path: s.spec.RootDisk, ReadOnly: true})
	}
	if s.spec.ScratchPath != "" {
		spec.Disks = append(spec.Disks, vm.Disk{Path: s.spec.ScratchPath})
	}
	if s.spec.Network != egress.None {
		var err error
		m.network, err = egress.New(egress.Config{
			Mode: s.spec.Network, AllowPrivate: s.cfg.AllowPrivate, Logger: s.log,
		})
		if err != nil {
			return err
		}
		conn, err := m.network.Attach()
		if err != nil {
			return err
		}
		spec.NIC = &vm.NIC{MAC: m.network.Guest().MAC, Conn: conn}
	}
	var err error
	if spec.Guest, err = socket.Listen(s.cfg.Dir, guestSocket); err != nil {
		if spec.NIC != nil {
			_ = spec.NIC.Conn.Close()
		}
		return err
	}
	guestAddr, err := vsock.Unix(spec.Guest.Addr().String())
	if err == nil {
		m.vm, err = s.cfg.Backend.Start(bootCtx, spec)
	}
	if err != nil {
		return fmt.Errorf("start machine: %w", err)
	}
	m.client = guest.New(guestAddr.Dial)
	s.noteVMM(m.vm.PID())
	return nil
}

// noteVMM records who must go when this supervisor is killed. A VMM that is gone
// already need not be; whoever waits for its guest learns why.
func (s *supervisor) noteVMM(pid int) {
	vmm, err := identify(pid)
	if err != nil {
		s.log.Warn("VMM not recorded", slog.Any("error", err))
		return
	}
	s.record.VMM = &vmm
	s.mu.Lock()
	s.vmmPID = pid
	s.mu.Unlock()
}

// configure welcomes guestd and tells it what only the host knows. A guestd that
// does not own its machine, the plain process that it is in a container, is told
// only what it may do: it refuses a request with anything else as a whole.
func (s *supervisor) configure(bootCtx context.Context, m *machine, conn net.Conn) error {
	peer, err := guest.Welcome(bootCtx, conn)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.peer = peer
	s.mu.Unlock()
	if why := peer.Ready.GetImageAgentRefused(); why != "" {
		s.log.Warn("the image's own guestd is not used, the host's is", slog.String("reason", printed(why)))
	}
	req := &guestv1.SystemConfigureRequest{
		Env: &guestv1.EnvDefaults{Variables: s.spec.Env},
		Results: &guestv1.ResultLimits{
			Age:         durationpb.New(s.spec.Results.Age),
			Count:       s.spec.Results.Count,
			OutputBytes: uint64(s.spec.Results.OutputMiB) << 20,
		},
	}
	if s.spec.Cwd != "" {
		req.Cwd = &s.spec.Cwd
	}
	if !peer.Ready.GetAgent().GetOwnsMachine() {
		s.log.Warn("guestd does not own its machine: host name, clock, user, network and certificates stay as they are there")
		return m.client.Configure(bootCtx, req)
	}
	req.Hostname = &s.spec.ID
	req.User = &guestv1.WorkloadUser{Image: s.spec.User}
	if m.network != nil {
		if err := s.describeNetwork(req, m.network.Guest()); err != nil {
			return err
		}
	}
	req.Clock = timestamppb.Now() // last: it ages
	if err := m.client.Configure(bootCtx, req); err != nil {
		return err
	}
	m.owned = true
	return nil
}

func (s *supervisor) describeNetwork(req *guestv1.SystemConfigureRequest, g egress.GuestConfig) error {
	req.Network = &guestv1.NetworkConfig{
		Address:     g.Addr.String(),
		Gateway:     g.Gateway.String(),
		Nameservers: []string{g.DNS.String()},
		Mtu:         uint32(g.MTU),
	}
	bundle, source, err := egress.HostCABundle(s.cfg.CAFile)
	if err != nil {
		if source != "" { // somebody named it
			return err
		}
		s.log.Warn("guest trusts only its image's certificates", slog.Any("error", err))
		return nil
	}
	req.CaBundlePem = bundle
	return nil
}
