// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/vm"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

const (
	// signalGrace is the time for an orderly shutdown when a signal ends the
	// supervisor.
	signalGrace = 5 * time.Second
	// limitGrace is that time when a limit ends the machine.
	limitGrace = 10 * time.Second
	// cutTimeout is how long the VMM may take to end without grace.
	cutTimeout = 10 * time.Second
	// farewell is how long clients may take to read the end.
	farewell = 2 * time.Second
)

// Config is what Run is given besides the machine itself.
type Config struct {
	// Dir is the machine's directory, which exists (0700) and becomes Run's.
	Dir string
	// Backend starts the machine, Accelerator says how it runs it.
	Backend     vm.Backend
	Accelerator string
	// Emulated guests get four times the time to boot.
	Emulated bool
	// Disks makes the scratch disk. Needed when the spec has one.
	Disks *disk.Cache
	// CAFile holds the certificates that the guest trusts; see
	// egress.HostCABundle.
	CAFile string
	// AllowPrivate is handed to the network as it is.
	AllowPrivate []netip.Prefix
	// BootTimeout is how long the boot may stand still: no console output and
	// no new phase. Zero: 15 s.
	BootTimeout time.Duration
	// ClockEvery is how often the guest's clock is compared with the host's; a
	// jump of the host's is seen apart from that. Zero: 15 s.
	ClockEvery time.Duration
	// Listening is called once, when the control API answers. May be nil.
	Listening func()
	// Logger may be nil.
	Logger *slog.Logger
}

// supervisor owns one machine. Run's goroutine owns its life; the API's
// goroutines read it and ask for its end.
type supervisor struct {
	cfg     Config
	spec    Spec
	log     *slog.Logger
	history *history
	holders *holders
	created time.Time
	// record belongs to Run's goroutine.
	record Record

	// stopping ends when the end was asked for; request is valid then.
	stopping context.Context
	stop     context.CancelCauseFunc
	once     sync.Once
	request  ending
	// pause follows a machine that waits for space on the host's disk.
	pause pause
	// cut ends when somebody does not want to wait for an orderly shutdown.
	cut    context.Context
	cutNow context.CancelFunc

	mu      sync.Mutex // guards what follows
	timings []*hostv1.TimedPhase
	peer    *guest.Peer
	vmmPID  int
}

// ending is why and how a machine ends.
type ending struct {
	cause   hostv1.EndCause
	message string
	grace   time.Duration
}

// errStopping is the cause of contexts that an asked-for end cancels.
var errStopping = errors.New("the environment is being stopped")

// Run makes the machine, keeps it until its end, and cleans up. It returns nil
// after an end that was asked for or that a limit brought. The end of ctx is
// such a request.
func Run(ctx context.Context, cfg Config, spec Spec) error {
	if err := spec.Check(); err != nil {
		return fmt.Errorf("supervise: %w", err)
	}
	record, err := newRecord(spec)
	if err != nil {
		return fmt.Errorf("supervise %s: %w", spec.ID, err)
	}
	s := &supervisor{
		cfg: cfg, spec: spec, log: cfg.Logger, history: newHistory(), holders: newHolders(),
		created: record.CreatedAt, record: record, pause: pause{changed: make(chan struct{}, 1)},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.log = s.log.With(slog.String("env", spec.ID))
	s.stopping, s.stop = context.WithCancelCause(context.Background())
	defer s.stop(nil)
	s.cut, s.cutNow = context.WithCancel(context.Background())
	defer s.cutNow()

	if err := s.record.write(cfg.Dir); err != nil {
		return fmt.Errorf("supervise %s: %w", spec.ID, err)
	}
	api, err := s.serve()
	if err != nil {
		return fmt.Errorf("supervise %s: %w", spec.ID, err)
	}
	defer api.Close(farewell) // the calls that run get their answer
	if cfg.Listening != nil {
		cfg.Listening()
	}
	unhook := context.AfterFunc(ctx, func() {
		s.ask(ending{hostv1.EndCause_END_CAUSE_STOPPED, "its supervisor was told to end", signalGrace})
	})
	defer unhook()
	return s.live()
}

// ask requests the end. The first request decides the cause; a later one without
// grace still hurries it.
func (s *supervisor) ask(e ending) {
	s.once.Do(func() {
		s.request = e
		s.stop(errStopping)
	})
	if e.grace <= 0 {
		s.cutNow()
	}
}

// live is the machine's life from its boot to its last state.
func (s *supervisor) live() error {
	m := &machine{}
	err := s.boot(m)
	var end ending
	switch {
	case err == nil:
		end = s.watch(m)
	case s.stopping.Err() != nil:
		end = s.request
	default:
		end = ending{cause: hostv1.EndCause_END_CAUSE_BOOT_FAILED, message: err.Error()}
	}
	s.log.Info("ending", slog.String("cause", CauseName(end.cause)), slog.String("message", end.message))
	s.enter(&hostv1.State{Phase: hostv1.Phase_PHASE_STOPPING, Cause: end.cause, Message: end.message})
	if err := s.shutDown(m, end); err != nil {
		s.log.Error("the VMM did not end", slog.Any("error", err))
		end.message += "; " + err.Error()
	}
	return s.finish(m, end)
}

// enter begins a phase: in vm.json first, so that whoever sees it can read it
// there.
func (s *supervisor) enter(st *hostv1.State) {
	s.record.Phase, s.record.Since = PhaseName(st.GetPhase()), time.Now()
	s.record.Cause, s.record.Message = CauseName(st.GetCause()), st.GetMessage()
	if err := s.record.write(s.cfg.Dir); err != nil {
		s.log.Warn("state not recorded", slog.Any("error", err))
	}
	s.history.add(st)
}

// shutDown ends the VMM: orderly within the grace, then at once.
func (s *supervisor) shutDown(m *machine, end ending) error {
	if m.vm == nil {
		return nil
	}
	if m.owned && end.grace > 0 && !s.pause.now() { // a paused guest does not hear of it
		graceCtx, cancel := context.WithTimeout(s.cut, end.grace)
		defer cancel()
		if err := m.client.Shutdown(graceCtx, min(2*time.Second, end.grace/2)); err != nil {
			s.log.Warn("orderly shutdown failed", slog.Any("error", err))
		} else {
			select {
			case <-m.vm.Done():
			case <-graceCtx.Done():
				s.log.Warn("guest did not power off in time", slog.Duration("grace", end.grace))
			}
		}
	}
	cutCtx, cancel := context.WithTimeout(context.Background(), cutTimeout)
	defer cancel()
	return m.vm.Stop(cutCtx)
}

// finish releases what the machine had, removes its files and says that it has
// ended.
func (s *supervisor) finish(m *machine, end ending) error {
	last := &hostv1.State{Phase: hostv1.Phase_PHASE_ENDED, Cause: end.cause, Message: end.message}
	if !clean(end.cause) && m.console != nil {
		last.ConsoleTail = m.console.tail(4 << 10)
	}
	m.release(s.log)
	if m.scratch != nil {
		if err := m.scratch(); err != nil {
			s.log.Error("scratch disk not removed", slog.Any("error", err))
		}
	}
	if clean(end.cause) {
		if err := os.RemoveAll(s.cfg.Dir); err != nil {
			s.log.Error("directory not removed", slog.Any("error", err))
		}
		s.history.add(last)
		return nil
	}
	s.enter(last)
	return fmt.Errorf("environment %s: %s: %s", s.spec.ID, CauseName(end.cause), end.message)
}

// step runs one step of the boot and notes how long it took.
func (s *supervisor) step(name string, f func() error) error {
	began := time.Now()
	err := f()
	took := time.Since(began)
	s.mu.Lock()
	s.timings = append(s.timings, &hostv1.TimedPhase{Name: name, Duration: durationpb.New(took)})
	s.mu.Unlock()
	s.log.Info("step", slog.String("name", name), slog.Duration("took", took), slog.Bool("ok", err == nil))
	return err
}
