// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// interruptGrace is what a command gets to act on a signal before it is
	// ended for certain.
	interruptGrace = 10 * time.Second
	// signalTimeout bounds the delivery of a signal.
	signalTimeout = 5 * time.Second
)

// newStart is the start of a command without a shell in between.
func newStart(words []string) *guestv1.Start {
	return &guestv1.Start{
		ExecId:  newExecID("exec"),
		Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: argv(words)}},
	}
}

// newExecID makes the id of an exec, unique on this host.
func newExecID(kind string) string { return kind + strings.TrimPrefix(environment.NewID(), "env") }

// execute runs a command in a guest with this process's streams, and returns nil
// or an exitError when it has ended. A signal that ends ctx is passed on to the
// command. The end of life ends the command without any delay.
func execute(ctx, life context.Context, g *guest.Client, start *guestv1.Start, interactive bool) error {
	// A write to a pipe that nobody reads then fails instead of killing this
	// process, which has a command to end and perhaps a machine.
	signal.Ignore(syscall.SIGPIPE)
	start.OutputPolicy = guestv1.OutputPolicy_OUTPUT_POLICY_WAIT
	stdout, stderr := &stream{w: os.Stdout}, &stream{w: os.Stderr}
	e := guest.Exec{Start: start, Stdout: stdout, Stderr: stderr}
	if interactive {
		start.StdinMode, e.Stdin = guestv1.StdinMode_STDIN_MODE_PIPE, os.Stdin
	}
	runCtx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { passOn(ctx, runCtx, cancel, g, start.GetExecId()) })
	defer stop()

	exited, err := g.Run(runCtx, e)
	switch {
	case errors.Is(stdout.err, syscall.EPIPE) || errors.Is(stderr.err, syscall.EPIPE):
		return exitError(exitSignal + int(syscall.SIGPIPE))
	case err != nil:
		return err
	}
	return complete(exited, stdout.n+stderr.n, outcome(exited, start.GetExecId(), start.GetArgv().GetArgs()[0]))
}

// argv takes the -- away that may stand in front of a command.
func argv(words []string) []string {
	if len(words) > 1 && words[0] == "--" {
		return words[1:]
	}
	return words
}

// passOn gives a command the signal that ended ctx, as a terminal gives it to all
// processes in front, and ends it when that does not.
func passOn(ctx, runCtx context.Context, cancel context.CancelCauseFunc, g *guest.Client, id string) {
	sig, ok := signalOf(ctx)
	if ok {
		sendCtx, done := context.WithTimeout(runCtx, signalTimeout)
		defer done()
		ok = g.Signal(sendCtx, id, sig, true) == nil
	}
	if ok {
		select {
		case <-time.After(interruptGrace):
		case <-runCtx.Done():
		}
	}
	cancel(context.Cause(ctx))
}

// stream counts what it passes on, and remembers why it no longer can.
type stream struct {
	w   io.Writer
	n   uint64
	err error
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += uint64(n)
	s.err = err
	return n, err
}
