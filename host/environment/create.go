// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/supervisor"
)

const (
	// MaxName is the most characters of an environment's name.
	MaxName = 64
	// MaxIdle is the longest idle timeout of an environment.
	MaxIdle = 24 * time.Hour
	// MaxImage is the longest reference of an image, in bytes.
	MaxImage = 512
	// DefaultRuntime is the one of a caller who names neither runtime nor image.
	DefaultRuntime = "python"
)

var (
	errDestroyed = errors.New("it was destroyed while it was being created")
	errClosing   = errors.New("the server is shutting down")
)

// CreateOptions say what environment to make.
type CreateOptions struct {
	// Runtime is one of the manager's Runtimes, Image a reference: one of the two.
	// With neither the runtime is DefaultRuntime.
	Runtime, Image string
	// Name is for people; may be empty.
	Name string
	// Idle ends the environment when nothing has run in it for so long. Zero:
	// the configured default.
	Idle time.Duration
}

// Create makes an environment and returns when it takes calls. The end of ctx
// ends the work and leaves nothing. progress, which may be nil, is told each
// phase.
func (m *Manager) Create(ctx context.Context, o CreateOptions, progress func(phase string)) (Info, error) {
	req, err := m.request(o)
	if err != nil {
		return Info{}, err
	}
	req.Owner = Owner(ctx)
	if progress == nil {
		progress = func(string) {}
	}
	bootCtx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	stop := context.AfterFunc(m.ctx, func() { abort(errClosing) })
	defer stop()

	e, err := m.reserve(req, abort)
	if err != nil {
		return Info{}, err
	}
	defer m.wg.Done()
	defer close(e.settled)
	began := time.Now()
	machine, err := m.cfg.Launch(bootCtx, req, progress)
	if err != nil {
		if bootCtx.Err() != nil {
			err = context.Cause(bootCtx)
		}
		m.bury(e, "it was never ready: "+guest.Text(err))
		return Info{}, fmt.Errorf("%w: %w", ErrCreate, err)
	}
	m.log.Info("environment is ready", "env", e.id, "runtime", req.Runtime, "image", req.Image, "took", time.Since(began).Round(time.Millisecond))
	m.describe(bootCtx, e, machine)
	if err := m.run(e, machine); err != nil {
		return Info{}, err
	}
	return e.snapshot(), nil
}

// checkKind checks what the environment is to be made of.
func (m *Manager) checkKind(o *CreateOptions) error {
	switch {
	case o.Image == "" && o.Runtime == "":
		o.Runtime = DefaultRuntime
		return nil
	case o.Image == "":
		_, err := m.runtimeOf("runtime", o.Runtime)
		return err
	case o.Runtime != "":
		return invalid("image", "and runtime are both given: give one of them")
	case len(o.Image) > MaxImage:
		return invalid("image", "is %d bytes long, the most is %d", len(o.Image), MaxImage)
	}
	if err := image.CheckReference(o.Image); err != nil {
		return fmt.Errorf("%w: image: %w", ErrInvalidArgument, err)
	}
	return nil
}

// request checks the options and completes them.
func (m *Manager) request(o CreateOptions) (Request, error) {
	err := m.checkKind(&o)
	if utf8.RuneCountInString(o.Name) > MaxName || strings.ContainsFunc(o.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		err = errors.Join(err, invalid("name", "must be at most %d printable characters", MaxName))
	}
	if o.Idle < 0 || o.Idle > MaxIdle {
		err = errors.Join(err, invalid("timeout_minutes", "must be 1 to %d, or left out for %g", int(MaxIdle.Minutes()), m.cfg.Idle.Minutes()))
	}
	if err != nil {
		return Request{}, err
	}
	if o.Idle == 0 {
		o.Idle = m.cfg.Idle
	}
	return Request{
		ID: NewID(), Name: o.Name, Runtime: o.Runtime, Image: o.Image, Stranger: true,
		CPUs: m.cfg.CPUs, MemoryMiB: m.cfg.MemoryMiB, DiskMiB: m.cfg.DiskMiB,
		IdleTimeout: o.Idle, OrphanTimeout: m.cfg.Orphan,
	}, nil
}

// reserve takes a slot before anything is started, so that creations at the same
// time cannot overshoot the maximum.
func (m *Manager) reserve(req Request, abort context.CancelCauseFunc) (*environment, error) {
	e := newEnvironment(Info{
		ID: req.ID, Name: req.Name, Owner: req.Owner, Runtime: req.Runtime, Image: req.Image, State: StateCreating, CreatedAt: time.Now(),
		Idle: req.IdleTimeout, CPUs: req.CPUs, MemoryMiB: req.MemoryMiB, DiskMiB: req.DiskMiB,
	}, abort)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrCreate, errClosing)
	}
	used := 0
	for _, other := range m.envs {
		if other.snapshot().State.holdsSlot() {
			used++
		}
	}
	if used >= m.cfg.Max {
		return nil, fmt.Errorf("%w: %d of %d are in use", ErrMaxEnvironments, used, m.cfg.Max)
	}
	m.envs[e.id] = e
	m.wg.Add(1) // Create's; under mu, so never after Close has begun to wait
	return e, nil
}

// run gives an environment its machine and starts to watch it.
func (m *Manager) run(e *environment, machine *supervisor.Client) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.machine = machine
	if err := e.setLocked(StateRunning, ""); err != nil {
		return err
	}
	m.watch(e, machine)
	return nil
}

// bury ends an environment that has no machine any more, whatever its state: its
// slot is free, and its cause is remembered.
func (m *Manager) bury(e *environment, cause string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.info.State == StateStopping && e.info.Cause != "" {
		cause = e.info.Cause // who asked knew better than who saw it end
	}
	e.enterLocked(StateGone, cause)
	e.over(cause)
	if e.machine != nil {
		_ = e.machine.Close()
	}
	if m.envs[e.id] != e {
		return
	}
	delete(m.envs, e.id)
	m.rememberLocked(ending{e.id, e.owner, cause})
}

// rememberLocked keeps the newest endings. m.mu is held.
func (m *Manager) rememberLocked(d ending) {
	if m.ended = append(m.ended, d); len(m.ended) > maxEndings {
		m.ended = m.ended[len(m.ended)-maxEndings:]
	}
}
