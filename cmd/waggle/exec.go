// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/stacklok/waggle/host/supervisor"
)

// execCmd runs a command in an environment that exists. It needs no server.
type execCmd struct {
	runDirFlags

	Interactive bool     `short:"i" help:"Give the command waggle's standard input."`
	ID          string   `arg:"" help:"The environment, or the beginning of its id."`
	Command     []string `arg:"" passthrough:"" help:"The command and its arguments."`
}

// Help implements kong.HelpProvider.
func (execCmd) Help() string {
	return `The command runs as the user sandbox in its home directory. Its output comes as it
is written, none of it is dropped, and waggle ends with its exit code.

    waggle exec env-ab ps aux
    waggle exec env-ab -- sh -c 'cd /tmp && ls'
    tar c . | waggle exec -i env-ab tar x

` + exitHelp
}

// exitHelp says what waggle adds to the exit codes of a command.
const exitHelp = `Ctrl-C goes to the command; one that has not ended 10 s later is ended.

Exit codes: the command's; 128 and the number of the signal that ended it; 127 when it
was not found, 126 when it could not be started, 125 when waggle failed.`

// Run passes on the exit code of the command. A signal goes to the command.
func (c *execCmd) Run(ctx context.Context) error {
	machine, err := c.attach(c.ID)
	if err != nil {
		return err
	}
	defer func() { _ = machine.Close() }()
	if err := machine.WaitRunning(ctx, "", nil); err != nil { // it may still boot
		return err
	}
	return execute(ctx, context.WithoutCancel(ctx), machine.Guest(), argv(c.Command), c.Interactive)
}

// attach finds a living environment by the beginning of its id.
func (f runDirFlags) attach(prefix string) (*supervisor.Client, error) {
	found, err := f.find(prefix)
	if err != nil {
		return nil, err
	}
	if !found.Alive {
		return nil, fmt.Errorf("environment %s has ended (%s): `waggle logs %s` shows its console, `waggle rm %s` removes it",
			found.ID, why(found), found.ID, found.ID)
	}
	return supervisor.Attach(found.Dir)
}

func (f runDirFlags) find(prefix string) (supervisor.Listed, error) {
	dir, err := f.runDir()
	if err != nil {
		return supervisor.Listed{}, err
	}
	found, err := supervisor.Find(dir, prefix)
	if errors.Is(err, supervisor.ErrNone) {
		err = fmt.Errorf("%w in %s", err, dir)
	}
	return found, err
}

// why says how a dead environment ended.
func why(l supervisor.Listed) string {
	switch {
	case l.Err != nil:
		return l.Err.Error()
	case l.Record.Cause == "":
		return "its supervisor was killed"
	case l.Record.Message != "":
		return printable(l.Record.Message)
	}
	return l.Record.Cause
}
