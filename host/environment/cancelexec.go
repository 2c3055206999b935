// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stacklok/waggle/host/guest"
)

// cancelWait is how long CancelExecution waits for the end: it has SIGTERM, a grace,
// SIGKILL, and what the kernel needs for the dying.
const cancelWait = 20 * time.Second

// CancelExecution ends an execution with everything that it started, and says how it
// ended: for one that had ended already, how that was. It returns when no process is
// left.
func (m *Manager) CancelExecution(ctx context.Context, id, execution string) (r ExecResult, err error) {
	if err := errors.Join(checkID(id), checkExecutionID(execution)); err != nil {
		return ExecResult{}, err
	}
	err = m.guestCall(ctx, id, cancelWait+kitTimeout, func(ctx context.Context, g *guest.Client) error {
		r, err = cancelExecution(ctx, g, execution)
		return err
	})
	return r, err
}

func cancelExecution(ctx context.Context, g *guest.Client, execution string) (ExecResult, error) {
	x, err := lookUp(ctx, g, execution)
	if err != nil {
		return ExecResult{}, err
	}
	if x.GetExited() == nil {
		if err := g.Terminate(ctx, x.GetExecId()); err != nil && !ended(err) {
			return ExecResult{}, execError(ctx, err)
		}
	}
	endCtx, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	exited, err := g.Follow(endCtx, x.GetExecId(), x.GetStdoutBytes(), x.GetStderrBytes())
	if err != nil {
		return ExecResult{}, execError(ctx, err)
	}
	if failure := exited.GetSpawnFailure(); failure != nil {
		return ExecResult{}, fmt.Errorf("%w: %s", ErrSpawn, plain(failure.GetMessage(), maxGuestText))
	}
	return execResult(execution, exited), nil
}
