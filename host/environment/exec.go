// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// MaxCode is the most code of one call, in bytes.
	MaxCode = 8 << 20
	// execSlack is how much longer than the code's own timeout, which the guest
	// enforces, the host waits: SIGTERM, grace, SIGKILL, and a slow emulator.
	execSlack = 30 * time.Second
	// maxFull bounds what the guest says of full file systems.
	maxFull = 16
)

var errNoAnswer = errors.New("the guest did not answer in time")

// ExecRequest is what to run: either Code or Command.
type ExecRequest struct {
	// Code is source in Language.
	Code string
	// Command is a program with its arguments; no shell reads them.
	Command []string
	// Language is one of the manager's Runtimes; empty: the environment's own, or,
	// if that was made of an image, the first one that it has.
	Language string
	// Cwd is where it runs, an absolute path. Empty: the environment's working
	// directory.
	Cwd string
	// Env are variables on top of the environment's own.
	Env map[string]string
	// Stdin is its standard input; empty: there is none.
	Stdin string
	// AsRoot runs it as root, not as the workload's user.
	AsRoot bool
	// Background: Exec returns when it runs, and it outlives the caller.
	Background bool
	// ExecutionID names the execution. A request with the id and the input of one
	// that runs or is still kept follows that one. Empty: a new one.
	ExecutionID string
	// Timeout ends it with everything it started. Zero: the default, or in the
	// background the most.
	Timeout time.Duration
	// Output, when not nil, is told what the code writes as it comes. Calls do
	// not overlap. The bytes are only good during the call.
	Output func(stderr bool, p []byte)
}

// ExecResult says how an execution ended, or that it runs.
type ExecResult struct {
	// ExecutionID finds it again while it is kept.
	ExecutionID string
	// Running: it was left in the background, and what follows is not known yet.
	Running bool
	// Continued: it had been started by an earlier call.
	Continued bool
	// Language is empty for a command.
	Language string
	// ExitCode is 128 plus the number of Signal when a signal ended it.
	ExitCode            int
	Signal              string
	TimedOut, OOMKilled bool
	// Cancelled: a call of a client, or the end of one, ended it.
	Cancelled bool
	// PidsExhausted: the kernel refused the code a process or a thread.
	PidsExhausted bool
	// FullFilesystems are mount points that had no room left at the end.
	FullFilesystems []string
	Duration        time.Duration
	// LeftRunning counts processes that the code had left running; they were
	// ended.
	LeftRunning    int
	Stdout, Stderr Output
}

// Exec runs code or a command and waits for its end. An exit code other than zero
// and a timeout are results, not errors. The end of ctx ends all that it started,
// unless it is in the background or somebody else follows it too.
func (m *Manager) Exec(ctx context.Context, id string, req ExecRequest) (ExecResult, error) {
	// What is wrong with the call itself comes first, and all of it at once.
	if err := errors.Join(checkID(id), m.checkExec(&req)); err != nil {
		return ExecResult{}, err
	}
	caller := ctx
	ctx, c, err := m.begin(ctx, id)
	if err != nil {
		return ExecResult{}, err
	}
	defer c.done()
	r, err := m.exec(ctx, c, req, func() bool { return caller.Err() != nil })
	return r, c.explain(ctx, err)
}

// exec runs a request that was checked. gaveUp says whether its caller has.
func (m *Manager) exec(ctx context.Context, c *call, req ExecRequest, gaveUp func() bool) (ExecResult, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, req.Timeout+execSlack, fmt.Errorf("%w: %w", ErrLost, errNoAnswer))
	defer cancel()
	x, err := m.plan(ctx, c, req)
	if err != nil {
		return ExecResult{}, err
	}
	leave := c.env.follow(x.id)
	if err := x.handIn(ctx); err != nil {
		leave()
		return ExecResult{}, err
	}
	if req.Background {
		return m.execBehind(ctx, c, x, leave)
	}
	r, err := x.run(ctx, nil)
	if leave() {
		m.settle(ctx, x, err != nil && gaveUp())
	}
	return r, err
}

// language is what is run where the caller names none. What an environment of an
// image has is looked for each time: code may have installed it.
func (m *Manager) language(ctx context.Context, c *call) (string, error) {
	if c.info.Runtime != "" {
		return c.info.Runtime, nil
	}
	k, err := m.look(ctx, c.machine)
	if err != nil {
		return "", err
	}
	languages := k.languages(m.runtimes, "")
	switch {
	case languages == nil:
		return "", invalid("language", "is missing: what this environment has is not known, name one of %s", strings.Join(m.Runtimes(), ", "))
	case len(languages) == 0:
		return "", fmt.Errorf("%w: the image has no interpreter of %s along its PATH; its own programs run by `waggle exec %s -- PROGRAM`",
			ErrNoInterpreter, strings.Join(m.Runtimes(), ", "), c.info.ID)
	}
	return languages[0], nil
}

// execResult is how an execution ended, without its output.
func execResult(id string, exited *guestv1.Exited) ExecResult {
	r := ExecResult{
		ExecutionID: id,
		ExitCode:    int(exited.GetExitCode()), TimedOut: exited.GetTimedOut(), OOMKilled: exited.GetOomKilled(),
		PidsExhausted: exited.GetPidsExhausted(),
		Cancelled:     exited.GetCancelled(),
		Duration:      exited.GetDuration().AsDuration(), LeftRunning: int(exited.GetLeftRunning()),
	}
	for _, mount := range exited.GetFullFilesystems()[:min(len(exited.GetFullFilesystems()), maxFull)] {
		r.FullFilesystems = append(r.FullFilesystems, plain(mount, maxGuestText))
	}
	if sig := exited.GetSignal(); sig > 0 {
		r.ExitCode = 128 + int(sig)
		if r.Signal = unix.SignalName(unix.Signal(sig)); r.Signal == "" {
			r.Signal = fmt.Sprintf("signal %d", sig)
		}
	}
	return r
}

func spawnError(rt runtime, command []string, f *guestv1.SpawnFailure) error {
	what := plain(f.GetMessage(), maxGuestText)
	switch f.GetKind() {
	case guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_CWD:
		return fmt.Errorf("%w: cwd is no directory that it may enter: %s", ErrInvalidArgument, what)
	case guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND:
		if command != nil {
			return invalid("command", "names a program that is not there: %s", what)
		}
		names := make([]string, len(rt.programs))
		for i, p := range rt.programs {
			names[i] = p[0]
		}
		return fmt.Errorf("%w: %s code needs %s: %s", ErrNoInterpreter, rt.name, strings.Join(names, " or "), what)
	case guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_ARGUMENTS_TOO_LARGE:
		return invalid("command", "and env are together more than the system takes: %s", what)
	default:
		return fmt.Errorf("%w: %s", ErrSpawn, what)
	}
}

// execError differs from guestError in what the codes of Process.Run mean.
func execError(ctx context.Context, err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeResourceExhausted:
		return fmt.Errorf("%w: %s", ErrSpawn, plain(guest.Text(err), maxGuestText))
	case connect.CodeAlreadyExists:
		return invalid("execution_id", "was used for another input: give it with the same parameters as then, or choose a new one")
	case connect.CodeFailedPrecondition, connect.CodeNotFound:
		return fmt.Errorf("%w: run the code: %s", ErrLost, plain(guest.Text(err), maxGuestText))
	default:
		return guestError(ctx, "run the code", err)
	}
}
