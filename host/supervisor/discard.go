// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/stacklok/waggle/host/egress"
)

// The networks that a Spec may ask for.
const (
	NetworkOpen = egress.Open
	NetworkNone = egress.None
)

// pollStep is how often the end of a process that is not a child is looked for;
// nothing signals it.
const pollStep = 20 * time.Millisecond

// Discard ends the machine at once, if it lives, and removes all that is left of
// it, also after a crash.
func Discard(ctx context.Context, dir string) error {
	record, err := ReadRecord(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return RemoveDead(dir)
	}
	if record.Supervisor.Alive() {
		if err := end(ctx, dir); err != nil {
			return err
		}
		if err := record.Supervisor.wait(ctx); err != nil {
			return err
		}
	}
	return RemoveDead(dir)
}

// end asks the supervisor in dir to end its machine.
func end(ctx context.Context, dir string) error {
	c, err := Attach(dir)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Stop(ctx, 0, "discarded"); err != nil && !errors.Is(err, ErrGone) {
		return err
	}
	return nil
}

// wait returns when the process has ended, a moment after its machine.
func (p Process) wait(ctx context.Context) error {
	tick := time.NewTicker(pollStep)
	defer tick.Stop()
	for p.Alive() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for process %d: %w", p.PID, context.Cause(ctx))
		}
	}
	return nil
}
