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

	Interactive bool     `short:"i" help:"Give the command this terminal's input."`
	ID          string   `arg:"" help:"The environment, or the beginning of its id."`
	Command     []string `arg:"" help:"The command and its arguments, after --."`
}

// Run passes on the exit code of the command. Ctrl-C ends the command.
func (c *execCmd) Run(ctx context.Context) error {
	machine, err := c.attach(c.ID)
	if err != nil {
		return err
	}
	defer func() { _ = machine.Close() }()
	if err := machine.WaitRunning(ctx, "", nil); err != nil { // it may still boot
		return err
	}
	return execute(ctx, machine.Guest(), c.Command, c.Interactive)
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
