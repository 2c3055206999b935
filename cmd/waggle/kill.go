// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// killTimeout is beyond the longest grace that a command may have.
const killTimeout = 75 * time.Second

// killCmd ends a command, or sends it a signal.
type killCmd struct {
	targetFlags
	Signal string   `short:"s" help:"Send this signal and do not wait. Default: end the command with all its processes, by SIGTERM, then by SIGKILL." placeholder:"NAME|NUMBER"`
	All    bool     `help:"With --signal: to every process of the command. So it is anyway once the command has ended and --keep-children let others live on."`
	Exec   []string `arg:"" help:"Commands by id, or the beginning of it; ENV/ID where it is ambiguous. 'waggle top ENV' lists them."`
}

// Help is the long text of --help.
func (*killCmd) Help() string {
	return `Without --signal a command is ended for certain: the daemons that it forked, its
stopped and its new processes too, and those that --keep-children let live on.
waggle kill returns when none is left.

  waggle kill job-4f7k2m3q
  waggle kill --signal HUP env-k3vq7d2m/job-4f`
}

// Run goes on after a command that cannot be ended, and says which ones.
func (c *killCmd) Run(ctx context.Context) error {
	if c.All && c.Signal == "" {
		return errors.New("--all goes with --signal: without it every process is ended anyway")
	}
	var errs []error
	for _, name := range c.Exec {
		if err := c.one(ctx, name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *killCmd) one(ctx context.Context, name string) error {
	killCtx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	g, x, err := c.findExec(killCtx, name)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	id := x.GetExecId()
	if c.Signal != "" {
		sig, err := parseSignal(c.Signal)
		if err != nil {
			return err
		}
		return g.Signal(killCtx, id, sig, c.All)
	}
	if x.GetExited() != nil {
		return fmt.Errorf("exec %s has ended already", id)
	}
	if err := g.Terminate(killCtx, id); err != nil {
		return err
	}
	// The end of its output is the end of its last process.
	_, err = g.Run(killCtx, guest.Exec{Attach: &guestv1.Attach{ExecId: id, Cursor: &guestv1.Cursor{
		StdoutOffset: x.GetStdoutBytes(), StderrOffset: x.GetStderrBytes(),
	}}})
	if err != nil {
		return err
	}
	fmt.Println(id)
	return nil
}
