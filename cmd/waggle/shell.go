// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// findShell starts the best shell that the image has, as a login shell.
const findShell = `for s in "$SHELL" bash ash sh; do command -v "$s" >/dev/null 2>&1 && exec "$s" -l; done; echo "this image has no shell" >&2; exit 127`

// shellCmd opens a shell that outlives a lost connection.
type shellCmd struct {
	targetFlags
	detachFlags

	User   string `short:"u" help:"User of the shell. Default: the workload user." placeholder:"NAME"`
	AsRoot bool   `help:"Run the shell as root, with what package managers need."`
	Cwd    string `short:"w" help:"Directory to begin in." placeholder:"DIR"`
	Env    string `arg:"" optional:"" help:"The environment, or the beginning of its id."`
}

// Help is the long text of --help.
func (*shellCmd) Help() string {
	return `The shell has a terminal of this one's size, and follows when that changes.
Ctrl-C goes to the program in the shell. The shell lives in the environment:
ctrl-p ctrl-q (--detach-keys), or a terminal that is closed, leaves it running,
and "waggle attach" returns to it. Exit the shell to end it.

  waggle shell env-k3vq7d2m
  waggle shell --as-root env-k3            # the beginning of the id is enough
  waggle shell --addr vsock://7:1024       # a guestd under another VMM`
}

// Run passes on the exit code of the shell.
func (c *shellCmd) Run(ctx context.Context) error {
	g, err := c.open(ctx, c.Env)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	start := &guestv1.Start{
		ExecId:  newExecID("shell"),
		Command: &guestv1.Start_Shell{Shell: findShell},
		User:    c.User, AsRoot: c.AsRoot, Cwd: c.Cwd,
		OnDetach: guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING,
	}
	return session(ctx, g.Client, c.detachFlags, guest.Exec{Start: start}, start.ExecId)
}
