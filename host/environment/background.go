// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"sync"
)

// execBehind runs an execution that outlives the call, and returns when it runs. A
// goroutine of the manager follows it to its end, to remove its code then.
func (m *Manager) execBehind(ctx context.Context, c *call, x *execution, leave func() bool) (ExecResult, error) {
	bg, cancel := context.WithCancelCause(m.ctx)
	dead := context.AfterFunc(c.env.life, func() { cancel(context.Cause(c.env.life)) })
	started := make(chan struct{})
	type outcome struct {
		result ExecResult
		err    error
	}
	over := make(chan outcome, 1)
	ok := m.behind(func() {
		defer cancel(nil)
		defer dead()
		r, err := x.run(bg, sync.OnceFunc(func() { close(started) }))
		last := leave()
		switch unwanted := errors.Is(context.Cause(bg), errAbandoned); {
		case last && (err == nil || unwanted || bg.Err() == nil):
			m.settle(bg, x, unwanted)
		case err != nil:
			m.log.Debug("execution is no longer followed", "env", x.env, "execution", x.id, "error", err)
		}
		over <- outcome{r, err}
	})
	if !ok {
		dead()
		cancel(nil)
		leave()
		return ExecResult{}, ErrNotRunning
	}
	select {
	case <-started:
		return ExecResult{ExecutionID: x.id, Running: true, Continued: x.existing, Language: x.rt.name}, nil
	case o := <-over:
		return o.result, o.err
	case <-ctx.Done():
		if x.req.ExecutionID == "" { // nobody knows its name
			cancel(errAbandoned)
		}
		return ExecResult{}, context.Cause(ctx)
	}
}
