// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/supervisor"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// execCmd runs a command in an environment that exists. It needs no server.
type execCmd struct {
	targetFlags
	detachFlags

	Interactive  bool              `short:"i" help:"Give the command waggle's standard input."`
	Tty          bool              `short:"t" help:"Give the command this terminal, with its input. It then lives on when the terminal is closed."`
	Detach       bool              `short:"d" help:"Print the command's id once it runs, and leave it running."`
	Env          map[string]string `short:"e" help:"Set a variable. May be repeated." mapsep:"none" placeholder:"NAME=VALUE"`
	Cwd          string            `short:"w" help:"Directory of the command. Default: the home directory." placeholder:"DIR"`
	User         string            `short:"u" help:"User of the command, also root, who then may read and write root's files and do nothing else that is root's. Default: the workload user." placeholder:"NAME"`
	AsRoot       bool              `help:"Run as root, with what package managers need."`
	Timeout      time.Duration     `help:"End the command with all its processes after this time."`
	KeepChildren bool              `help:"Let the processes live on that the command leaves behind, under its id: attach follows them, kill ends them, top counts them."`
	ExecID       string            `help:"Name the command. Naming one that runs or ran follows that one: a command is never run twice under one name." placeholder:"ID"`

	ID      string   `arg:"" name:"env" help:"The environment, or the beginning of its id; left out with --addr."`
	Command []string `arg:"" optional:"" passthrough:"" help:"The command and its arguments."`
}

// Help implements kong.HelpProvider.
func (execCmd) Help() string {
	return `The command runs as the user sandbox in its home directory. Its output comes as it
is written, none of it is dropped, and waggle ends with its exit code.

    waggle exec env-ab ps aux
    waggle exec env-ab -- sh -c 'cd /tmp && ls'
    tar c . | waggle exec -i env-ab tar x
    waggle exec -t env-ab top                # ctrl-p ctrl-q leaves it running
    waggle exec -d env-ab make all           # "waggle attach ID" follows it

` + exitHelp
}

// exitHelp says what waggle adds to the exit codes of a command.
const exitHelp = `Ctrl-C goes to the command; one that has not ended 10 s later is ended.

Exit codes: the command's; 128 and the number of the signal that ended it; 127 when it
was not found, 126 when it could not be started, 125 when waggle failed.`

// Run passes on the exit code of the command. A signal goes to the command.
func (c *execCmd) Run(ctx context.Context) error {
	env, words := c.shift(c.ID, c.Command)
	switch {
	case len(argv(words)) == 0:
		return errors.New("name a command: `waggle exec ENV COMMAND`")
	case c.Detach && (c.Interactive || c.Tty):
		return errors.New("--detach leaves no input: give it without -i and -t")
	case c.Timeout < 0:
		return fmt.Errorf("--timeout: %s is below zero", c.Timeout)
	}
	g, err := c.open(ctx, env)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	start := c.start(words)
	switch {
	case c.Detach:
		return launch(ctx, g.Client, start)
	case c.Tty:
		return session(ctx, g.Client, c.detachFlags, guest.Exec{Start: start}, start.GetExecId())
	}
	return execute(ctx, context.WithoutCancel(ctx), g.Client, start, c.Interactive)
}

func (c *execCmd) start(words []string) *guestv1.Start {
	start := newStart(words)
	start.Env, start.Cwd, start.User, start.AsRoot, start.KeepChildren = c.Env, c.Cwd, c.User, c.AsRoot, c.KeepChildren
	if c.ExecID != "" {
		start.ExecId = c.ExecID
	}
	if c.Timeout > 0 {
		start.Timeout = durationpb.New(c.Timeout)
	}
	if c.Detach || c.Tty {
		start.OnDetach = guestv1.DetachPolicy_DETACH_POLICY_KEEP_RUNNING
	}
	return start
}

// errRuns ends the following of a command that is to be left alone.
var errRuns = errors.New("it runs")

// launch prints the id of a command once it runs. One that cannot be started is
// followed to its end, which says why.
func launch(ctx context.Context, g *guest.Client, start *guestv1.Start) error {
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	exited, err := g.Run(runCtx, guest.Exec{Start: start, Started: func(s *guestv1.Started) {
		if s.GetPid() != 0 {
			cancel(errRuns)
		}
	}})
	switch {
	case errors.Is(err, errRuns):
	case err != nil:
		return err
	default: // it was never started, or is over already
		if exited.GetSpawnFailure() != nil {
			return outcome(exited, start.GetExecId(), start.GetArgv().GetArgs()[0])
		}
	}
	fmt.Println(start.GetExecId())
	return nil
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
