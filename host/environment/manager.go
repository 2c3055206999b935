// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/stacklok/waggle/host/supervisor"
)

// Config says what a manager makes. Launch is required, and so are the numbers.
type Config struct {
	// Launch makes a machine and returns when it is ready. It reports the
	// phases of the work. A failure leaves nothing behind.
	Launch func(ctx context.Context, req Request, progress func(phase string)) (*supervisor.Client, error)
	// Holder names this process to supervisors.
	Holder string
	// Max is the most environments at once, those that an earlier server left
	// included.
	Max int
	// MaxPerOwner is the most of one identity. Zero: Max.
	MaxPerOwner int
	// CPUs, MemoryMiB and DiskMiB are the size of an environment.
	CPUs, MemoryMiB, DiskMiB uint32
	// MaxCPUs and MaxMemoryMiB are the most that a caller may ask for, when above.
	MaxCPUs, MaxMemoryMiB uint32
	// Idle is the idle timeout when the caller names none.
	Idle time.Duration
	// Orphan is how long a machine outlives its server.
	Orphan time.Duration
	// ExecDefault and ExecMax are the timeout of code, and the most of it.
	ExecDefault, ExecMax time.Duration
	// Runtimes are settings of runtimes by their names, new ones included. The
	// image of a new one is for Launch to know.
	Runtimes map[string]RuntimeSetting
	// Logger may be nil.
	Logger *slog.Logger
}

// Manager holds the environments of one server. Its methods may be called
// concurrently.
type Manager struct {
	cfg      Config
	log      *slog.Logger
	runtimes []runtime

	// ctx lives as long as the manager; wg counts what runs on it.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	envs map[string]*environment
	// ended says why environments that are gone have ended, newest last.
	ended []ending
}

// environment is one environment. mu guards all that follows it.
type environment struct {
	id, owner string
	// key and keySum are those of the call that made it; may be empty.
	key, keySum string
	// settled is closed when Create has an outcome.
	settled chan struct{}
	// abort ends a Create that has none yet.
	abort context.CancelCauseFunc
	// life ends, by end, when the environment takes no calls any more.
	life context.Context
	end  context.CancelCauseFunc
	// swept guards what is done once before the first execution of this server.
	swept sync.Once

	mu      sync.Mutex
	info    Info
	machine *supervisor.Client // nil until it runs
	kit     *kit               // nil until it was asked for
	// followers counts the calls that follow each execution.
	followers map[string]int
	// changed is closed and replaced with each change of the state.
	changed chan struct{}
	// moving ends, by halt, when the machine stands still, and is made anew when
	// it goes on.
	moving context.Context
	halt   context.CancelCauseFunc
}

// New makes a manager without environments. The caller closes it.
func New(cfg Config) (*Manager, error) {
	switch {
	case cfg.Launch == nil:
		return nil, errors.New("environment: Config.Launch is required")
	case cfg.Max < 1:
		return nil, fmt.Errorf("max environments is %d, it must be at least 1", cfg.Max)
	case cfg.ExecDefault <= 0 || cfg.ExecMax < cfg.ExecDefault:
		return nil, fmt.Errorf("exec timeouts: the default (%s) must be above zero and at most the maximum (%s)", cfg.ExecDefault, cfg.ExecMax)
	case cfg.Idle <= 0:
		return nil, fmt.Errorf("idle timeout is %s, it must be above zero", cfg.Idle)
	}
	known, err := withSettings(cfg.Runtimes)
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, runtimes: known, log: cfg.Logger, envs: make(map[string]*environment)}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// Close lets go of all environments, which live on, and waits for what the
// manager runs.
func (m *Manager) Close() {
	m.mu.Lock()
	m.cancel()
	m.mu.Unlock()
	m.wg.Wait()
	for _, e := range m.all() {
		e.mu.Lock()
		if e.machine != nil {
			// Closing a connection that is no longer used can lose nothing.
			_ = e.machine.Close()
		}
		e.mu.Unlock()
	}
}

// Get describes one environment.
func (m *Manager) Get(ctx context.Context, id string) (Info, error) {
	e, err := m.find(ctx, id)
	if err != nil {
		return Info{}, err
	}
	return e.snapshot(), nil
}

// List describes the environments of the caller, oldest first.
func (m *Manager) List(ctx context.Context) []Info {
	var infos []Info
	for _, e := range m.all() {
		if info := e.snapshot(); owns(ctx, info.Owner) {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b Info) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return infos
}

// Max is the most environments at once.
func (m *Manager) Max() int { return m.cfg.Max }

// ExecTimeouts are the default and the most of Exec's timeout.
func (m *Manager) ExecTimeouts() (def, most time.Duration) { return m.cfg.ExecDefault, m.cfg.ExecMax }

// IdleDefault is the idle timeout of environments that name none.
func (m *Manager) IdleDefault() time.Duration { return m.cfg.Idle }

func (m *Manager) all() []*environment {
	m.mu.Lock()
	defer m.mu.Unlock()
	envs := make([]*environment, 0, len(m.envs))
	for _, e := range m.envs {
		envs = append(envs, e)
	}
	return envs
}

// find returns an environment that the caller sees. That of somebody else is not
// found, in the words of one that never was.
func (m *Manager) find(ctx context.Context, id string) (*environment, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.envs[id]; ok && owns(ctx, e.owner) {
		return e, nil
	}
	hers := func(d ending) bool { return d.id == id && owns(ctx, d.owner) }
	if i := slices.IndexFunc(m.ended, hers); i >= 0 {
		return nil, fmt.Errorf("%w: %s has ended: %s", ErrNotFound, id, m.ended[i].cause)
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
}

// newEnvironment is one that waits for its machine.
func newEnvironment(info Info, abort context.CancelCauseFunc) *environment {
	e := &environment{id: info.ID, owner: info.Owner, settled: make(chan struct{}), abort: abort, info: info, changed: make(chan struct{})}
	e.life, e.end = context.WithCancelCause(context.Background())
	e.moving, e.halt = context.WithCancelCause(context.Background())
	return e
}

func (e *environment) snapshot() Info {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.info
}

// setLocked changes the state; cause is why, for people.
func (e *environment) setLocked(to State, cause string) error {
	if err := e.info.State.check(to); err != nil {
		return fmt.Errorf("%s: %w", e.id, err)
	}
	e.enterLocked(to, cause)
	if to == StateStopping || to == StateFailed {
		e.over(cause)
	}
	return nil
}

// enterLocked changes the state and tells those who wait for that.
func (e *environment) enterLocked(to State, cause string) {
	e.info.State, e.info.Cause = to, cause
	close(e.changed)
	e.changed = make(chan struct{})
}
