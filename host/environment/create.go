// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// Create makes an environment, or finds the one that an earlier call with the same key
// makes or has made, and returns when it takes calls. The end of ctx
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

	e, found, err := m.reserve(req, abort)
	if err != nil {
		return Info{}, err
	}
	if found {
		return m.await(ctx, e)
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

// reserve takes a slot before anything is started, so that creations at the same
// time cannot overshoot the maximum. It finds the environment of an earlier call with
// the same key.
func (m *Manager) reserve(req Request, abort context.CancelCauseFunc) (e *environment, found bool, err error) {
	e = newEnvironment(Info{
		ID: req.ID, Name: req.Name, Owner: req.Owner, Runtime: req.Runtime, Image: req.Image, State: StateCreating, CreatedAt: time.Now(),
		Idle: req.IdleTimeout, CPUs: req.CPUs, MemoryMiB: req.MemoryMiB, DiskMiB: req.DiskMiB,
	}, abort)
	e.key, e.keySum = req.Key, req.KeySum
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrCreate, errClosing)
	}
	if earlier, err := m.sameKeyLocked(req); earlier != nil || err != nil {
		return earlier, true, err
	}
	used, own := 0, 0
	for _, other := range m.envs {
		if !other.snapshot().State.holdsSlot() {
			continue
		}
		used++
		if other.owner == e.owner {
			own++
		}
	}
	if e.owner != "" && m.cfg.MaxPerOwner > 0 && own >= m.cfg.MaxPerOwner {
		return nil, false, fmt.Errorf("%w: %d of the %d that %s may have are in use", ErrMaxEnvironments, own, m.cfg.MaxPerOwner, e.owner)
	}
	if used >= m.cfg.Max {
		return nil, false, fmt.Errorf("%w: %d of %d are in use", ErrMaxEnvironments, used, m.cfg.Max)
	}
	m.envs[e.id] = e
	m.wg.Add(1) // Create's; under mu, so never after Close has begun to wait
	return e, false, nil
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

// ending is the epitaph of an environment.
type ending struct{ id, owner, cause string }

// maxEndings bounds what is remembered of the dead, failed ones included.
const maxEndings = 256

// rememberLocked keeps the newest endings. m.mu is held.
func (m *Manager) rememberLocked(d ending) {
	if m.ended = append(m.ended, d); len(m.ended) > maxEndings {
		m.ended = m.ended[len(m.ended)-maxEndings:]
	}
}
