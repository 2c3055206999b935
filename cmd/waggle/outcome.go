// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Exit codes of a shell for what is no exit of the command.
const (
	exitSignal     = 128 // plus the number of the signal
	exitNotFound   = 127
	exitNotStarted = 126
	exitInterrupt  = 130
)

// exitError is the exit code of a command in the guest, which waggle passes on
// without words of its own.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// execute runs a command in a guest with this process's streams, and returns nil
// or an exitError when it has ended. The end of ctx ends the command.
func execute(ctx context.Context, g *guest.Client, argv []string, interactive bool) error {
	start := &guestv1.Start{
		ExecId:  "cli-" + environment.NewID(),
		Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: argv}},
	}
	var stdin io.Reader
	if interactive {
		start.StdinMode, stdin = guestv1.StdinMode_STDIN_MODE_PIPE, os.Stdin
	}
	exited, err := g.Run(ctx, guest.Exec{Start: start, Stdin: stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	return outcome(exited, argv[0])
}

func outcome(e *guestv1.Exited, program string) error {
	if n := e.GetStdoutDroppedBytes() + e.GetStderrDroppedBytes(); n > 0 {
		fmt.Fprintf(os.Stderr, "waggle: %d bytes of the output were dropped\n", n)
	}
	if n := e.GetLeftRunning(); n > 0 {
		fmt.Fprintf(os.Stderr, "waggle: %d processes that the command left running were ended\n", n)
	}
	if e.GetOomKilled() {
		fmt.Fprintln(os.Stderr, "waggle: the guest ran out of memory; give it more with --memory-mb")
	}
	switch o := e.GetOutcome().(type) {
	case *guestv1.Exited_ExitCode:
		if o.ExitCode == 0 {
			return nil
		}
		return exitError(o.ExitCode & 0xff)
	case *guestv1.Exited_Signal:
		return exitError(exitSignal + o.Signal&0x7f)
	case *guestv1.Exited_SpawnFailure:
		fmt.Fprintf(os.Stderr, "waggle: cannot run %s: %s\n", program, printable(o.SpawnFailure.GetMessage()))
		if o.SpawnFailure.GetKind() == guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND {
			return exitError(exitNotFound)
		}
		return exitError(exitNotStarted)
	}
	return fmt.Errorf("the guest did not say how %s ended", program)
}
