// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"

	"golang.org/x/term"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// replay is what attach shows again of a terminal session, in bytes: some
// screens full. A full-screen program paints itself anew besides.
const replay = 8 << 10

// attachCmd follows a command that runs or has ended.
type attachCmd struct {
	targetFlags
	detachFlags

	Tail    int64  `help:"Begin so many bytes before the end of the output; -1 for its beginning. Default: 8192 for a terminal session, else -1." default:"-2" placeholder:"BYTES"`
	NoInput bool   `help:"Only look on: pass no input."`
	Exec    string `arg:"" help:"The command's id as exec --detach, shell or top shows it, or the beginning of it; ENV/ID where it is ambiguous."`
}

// Help is the long text of --help.
func (*attachCmd) Help() string {
	return `The output comes from where it is kept in the environment, so nothing is lost
by having been away; any number may look on at once. A terminal session takes
this terminal's input, and ctrl-p ctrl-q leaves it again. For any other command
Ctrl-C ends the looking on, not the command: "waggle kill" does that.

A command of "exec --keep-children" is followed until the last process ends that
it has left running; the exit code is that of the command itself.

  waggle attach job-4f7k2m3q
  waggle attach --tail 1000 env-k3vq7d2m/job-4f`
}

// Run passes on the exit code of the command.
func (c *attachCmd) Run(ctx context.Context) error {
	g, x, err := c.findExec(ctx, c.Exec)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	e := guest.Exec{
		Attach: &guestv1.Attach{ExecId: x.GetExecId(), Cursor: c.cursor(x)},
		Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if x.GetPty() && !c.NoInput && x.GetExited() == nil && term.IsTerminal(int(os.Stdin.Fd())) {
		return session(ctx, g.Client, c.detachFlags, e, x.GetExecId())
	}
	exited, err := g.Run(ctx, e)
	switch {
	case err != nil && ctx.Err() != nil:
		return farewell(os.Stderr, x.GetExecId(), errDetached)
	case err != nil:
		return err
	}
	return outcome(exited, x.GetExecId(), printable(x.GetCommand()))
}

// cursor is where in the output to begin.
func (c *attachCmd) cursor(x *guestv1.ExecInfo) *guestv1.Cursor {
	tail := c.Tail
	if tail == -2 && x.GetPty() {
		tail = replay
	}
	if tail < 0 {
		return nil
	}
	before := func(total uint64) uint64 { return total - min(total, uint64(tail)) }
	return &guestv1.Cursor{StdoutOffset: before(x.GetStdoutBytes()), StderrOffset: before(x.GetStderrBytes())}
}
