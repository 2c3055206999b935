// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/supervisor"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

const (
	// runOrphan ends the machine of a `waggle run` that was killed.
	runOrphan = 5 * time.Second
	// stopTimeout bounds the end of a machine.
	stopTimeout = 60 * time.Second
)

// runCmd runs one command in a machine of its own, which is gone afterwards. It
// needs no server.
type runCmd struct {
	vmFlags

	Interactive bool     `short:"i" help:"Give the command waggle's standard input."`
	Network     string   `help:"What the guest reaches: ${enum}." enum:"open,none" default:"open"`
	Quiet       bool     `short:"q" help:"Do not say what is being done."`
	Image       string   `arg:"" name:"image|runtime" help:"python, node, shell, or an image reference."`
	Command     []string `arg:"" passthrough:"" help:"The command and its arguments."`
}

// Help implements kong.HelpProvider.
func (runCmd) Help() string {
	return `The machine is made for the command and gone when it ends; no server is needed.

    waggle run python python3 -c 'print(6*7)'
    waggle run --network none -i python python3 - < script.py
    waggle run docker://docker.io/library/alpine:3.22 -- sh -c 'cat /etc/os-release'

` + exitHelp
}

// Run passes on the exit code of the command. A signal goes to the command while
// there is one, and ends the machine before.
func (c *runCmd) Run(ctx context.Context) (err error) {
	holder := fmt.Sprintf("run %d", os.Getpid())
	backend, on, err := c.backend(ctx)
	if err != nil {
		return err
	}
	// What is missing has nothing to do with what is said of images below.
	if err := errors.Join(checkBackend(backend)...); err != nil {
		return err
	}
	l, err := c.launcher(holder, backend)
	if err != nil {
		return err
	}
	l.NoNetwork = c.Network == "none"
	req := environment.Request{ID: environment.NewID(), OrphanTimeout: runOrphan}
	if _, set := l.Images[c.Image]; set || slices.Contains(environment.Runtimes(), c.Image) {
		req.Runtime = c.Image
	} else {
		req.Image = c.Image
	}
	say := newProgress(os.Stderr, c.Quiet)
	say.fact("backend chosen: " + on.String())
	machine, err := l.Launch(ctx, req, say.step)
	say.done()
	if err != nil {
		if errors.Is(err, image.ErrNotFound) || !strings.ContainsAny(c.Image, "/:") && req.Image != "" {
			err = fmt.Errorf("%w; runtimes are %s", err, strings.Join(environment.Runtimes(), ", "))
		}
		return err
	}
	defer func() {
		// ctx may have ended; nothing in a throw-away machine is worth a wait.
		endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, c.end(endCtx, machine))
	}()

	// Not ctx: the command gets the time to act on a signal.
	holdCtx, letGo := context.WithCancelCause(context.WithoutCancel(ctx))
	held := make(chan struct{})
	go func() {
		defer close(held)
		// A machine that ends takes the command with it: say why.
		letGo(hold(holdCtx, machine, holder))
	}()
	err = execute(ctx, holdCtx, machine.Guest(), newStart(c.Command), c.Interactive)
	letGo(nil)
	<-held
	return err
}

// end removes the machine, with what a crash of it left.
func (c *runCmd) end(ctx context.Context, machine *supervisor.Client) error {
	defer func() { _ = machine.Close() }()
	return supervisor.Discard(ctx, machine.Dir())
}

// hold owns a machine until ctx ends, and says how it ended before.
func hold(ctx context.Context, machine *supervisor.Client, holder string) error {
	var last *hostv1.State
	err := machine.Wait(ctx, holder, func(s *hostv1.State) bool {
		sayPause(last, s)
		last = s
		return true
	})
	if err == nil {
		return &supervisor.EndedError{State: last}
	}
	return err
}
