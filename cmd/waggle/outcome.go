// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Exit codes, as shells and container engines have them.
const (
	exitFailure    = 1   // waggle failed
	exitUsage      = 2   // waggle was not understood
	exitRunFailure = 125 // as both, where lower codes are those of a command
	exitNotStarted = 126 // the command was found and could not be started
	exitNotFound   = 127 // the command was not found
	exitSignal     = 128 // plus the number of the signal that ended the command
)

// exitError is the exit code of a command in the guest, which waggle passes on
// without words of its own.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// exitCode is waggle's for a command line whose first word is name. show says
// whether err has something to tell.
func exitCode(ctx context.Context, name string, err error) (code int, show bool) {
	var command exitError
	sig, signalled := signalOf(ctx)
	switch {
	case err == nil:
		return 0, false
	case errors.As(err, &command):
		return int(command), err.Error() != command.Error() // the clean-up failed too
	case signalled:
		return exitSignal + int(sig), false
	case passesOn(name):
		return exitRunFailure, true
	}
	return exitFailure, true
}

// usageCode is waggle's for a command line that it does not understand.
func usageCode(args []string) int {
	if len(args) > 0 && passesOn(args[0]) {
		return exitRunFailure
	}
	return exitUsage
}

// passesOn says whether a command of waggle passes on the exit code of another.
func passesOn(name string) bool {
	switch name {
	case "run", "exec", "shell", "attach":
		return true
	}
	return false
}

// outcome is what waggle says of the exec id that has ended, and its exit code.
func outcome(e *guestv1.Exited, id, program string) error {
	if words := leftRunning(e, id); words != "" {
		fmt.Fprintln(os.Stderr, "waggle: "+words)
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

// leftRunning says what became of what a command left running.
func leftRunning(e *guestv1.Exited, id string) string {
	n := uint64(e.GetLeftRunning())
	what := counted(n, "process", "processes") + " that the command left running "
	switch {
	case n == 0:
		return ""
	case !e.GetKept() && n == 1:
		return what + "was ended"
	case !e.GetKept():
		return what + "were ended"
	case n == 1:
		return what + "lives on; `waggle attach " + id + "` follows it, `waggle kill " + id + "` ends it"
	}
	return what + "live on; `waggle attach " + id + "` follows them, `waggle kill " + id + "` ends them"
}

// counted is a number with its noun.
func counted(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// complete adds to the outcome that output is missing: got is how many bytes of it
// have arrived. A command that succeeded has not, for whoever reads its output.
func complete(e *guestv1.Exited, got uint64, outcome error) error {
	all := e.GetStdoutBytes() + e.GetStderrBytes()
	if all <= got {
		return outcome
	}
	fmt.Fprintf(os.Stderr, "waggle: %s of the output lost\n", counted(all-got, "byte", "bytes"))
	if outcome == nil {
		return exitError(exitRunFailure)
	}
	return outcome
}
