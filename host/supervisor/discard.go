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

// answerLimit is how long a supervisor may take to say how it is. It does nothing
// that could take as long, on however busy a host.
const answerLimit = 10 * time.Second

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
		c, err := Attach(dir)
		if err != nil && !errors.Is(err, ErrGone) {
			return err
		}
		if err == nil {
			defer func() { _ = c.Close() }()
			if err := c.End(ctx, 0, "discarded"); err != nil {
				return err
			}
		}
		if err := record.Supervisor.wait(ctx); err != nil {
			return err
		}
	}
	return RemoveDead(dir)
}

// End ends the machine, orderly within the grace, and returns when it has ended,
// whoever ended it. A supervisor that does not answer (it was stopped, or stands
// still) is killed for it, and the machine dies with it. Files may be left:
// Discard removes them.
func (c *Client) End(ctx context.Context, grace time.Duration, reason string) error {
	askCtx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	_, err := c.Info(askCtx)
	if err == nil {
		_, err = c.Stop(ctx, grace, reason)
	}
	switch {
	case err == nil, errors.Is(err, ErrGone):
		return nil
	case errors.Is(err, context.DeadlineExceeded): // the question's, or what ctx allows for the end
		record, readErr := ReadRecord(c.dir)
		if readErr != nil {
			return errors.Join(err, readErr)
		}
		return record.Supervisor.kill(killTimeout)
	}
	return err
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
