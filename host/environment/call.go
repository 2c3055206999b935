// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stacklok/waggle/host/supervisor"
)

// verdictTimeout is how long a call whose connection broke waits to learn what
// became of its environment: the connection breaks first.
const verdictTimeout = 2 * time.Second

// call is one call on an environment that runs.
type call struct {
	env     *environment
	machine *supervisor.Client
	info    Info
	cancel  context.CancelCauseFunc
	unhook  func()
}

// begin finds a running environment. The context that it returns ends with ctx,
// with the environment and when that stands still, and is the call's until done.
func (m *Manager) begin(ctx context.Context, id string) (context.Context, *call, error) {
	e, err := m.find(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.info.State != StateRunning {
		err := fmt.Errorf("%w: %s is %s", ErrNotRunning, id, e.info.State)
		if e.info.Cause != "" {
			err = fmt.Errorf("%w: %s", err, e.info.Cause)
		}
		return nil, nil, err
	}
	if e.moving.Err() != nil {
		return nil, nil, fmt.Errorf("%s %w", id, context.Cause(e.moving))
	}
	c := &call{env: e, machine: e.machine, info: e.info}
	ctx, c.cancel = context.WithCancelCause(ctx)
	lost := context.AfterFunc(e.life, func() { c.cancel(context.Cause(e.life)) })
	moving := e.moving
	still := context.AfterFunc(moving, func() { c.cancel(context.Cause(moving)) })
	c.unhook = func() { lost(); still() }
	return ctx, c, nil
}

func (c *call) done() {
	c.unhook()
	c.cancel(nil)
}

// explain adds to the error of a lost environment why it was lost.
func (c *call) explain(ctx context.Context, err error) error {
	if !errors.Is(err, ErrLost) {
		return err
	}
	wait := time.NewTimer(verdictTimeout)
	defer wait.Stop()
	select {
	case <-c.env.life.Done():
	case <-wait.C:
	case <-ctx.Done(): // the caller's end, or that of the life
	}
	if c.env.life.Err() != nil {
		return context.Cause(c.env.life)
	}
	return err
}

// over ends the calls on an environment: cause is why it takes none any more. The
// first cause counts.
func (e *environment) over(cause string) {
	if cause == "" {
		cause = "it ended"
	}
	e.end(fmt.Errorf("%w: %s", ErrLost, cause))
}
