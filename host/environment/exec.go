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
	"google.golang.org/protobuf/types/known/durationpb"

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

// ExecRequest is code to run.
type ExecRequest struct {
	// Code is not empty.
	Code string
	// Language is one of the manager's Runtimes; empty: the environment's own, or,
	// if that was made of an image, the first one that it has.
	Language string
	// Timeout ends the code with everything it started. Zero: the default.
	Timeout time.Duration
	// Output, when not nil, is told what the code writes as it comes. Calls do
	// not overlap. The bytes are only good during the call.
	Output func(stderr bool, p []byte)
}

// ExecResult says how code ended.
type ExecResult struct {
	ExecID   string
	Language string
	// ExitCode is 128 plus the number of Signal when a signal ended it.
	ExitCode            int
	Signal              string
	TimedOut, OOMKilled bool
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

// Exec runs code and waits for its end. An exit code other than zero and a
// timeout are results, not errors. The end of ctx ends the code.
func (m *Manager) Exec(ctx context.Context, id string, req ExecRequest) (ExecResult, error) {
	// What is wrong with the call itself comes first, and all of it at once.
	if err := errors.Join(checkID(id), m.checkExec(&req)); err != nil {
		return ExecResult{}, err
	}
	ctx, c, err := m.begin(ctx, id)
	if err != nil {
		return ExecResult{}, err
	}
	defer c.done()
	r, err := m.exec(ctx, c, req)
	return r, c.explain(ctx, err)
}

func (m *Manager) exec(ctx context.Context, c *call, req ExecRequest) (ExecResult, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, req.Timeout+execSlack, fmt.Errorf("%w: %w", ErrLost, errNoAnswer))
	defer cancel()
	k, err := m.kit(ctx, c)
	if err != nil {
		return ExecResult{}, err
	}
	if req.Language == "" {
		if req.Language, err = m.language(ctx, c); err != nil {
			return ExecResult{}, err
		}
	}
	rt, err := m.runtimeOf("language", req.Language)
	if err != nil {
		return ExecResult{}, err
	}
	execID := "x" + random(12)
	client := c.machine.Guest()
	file, err := handIn(ctx, client, k, "."+execID+rt.extension, req.Code)
	if err != nil {
		return ExecResult{}, err
	}
	defer m.remove(c.info.ID, client, file)
	return runFile(ctx, client, rt, req, execID, k.dir, file)
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

// runFile runs a file with the first program that is installed.
func runFile(ctx context.Context, client *guest.Client, rt runtime, req ExecRequest, execID, dir, file string) (ExecResult, error) {
	var stdout, stderr collector
	if req.Output != nil {
		stdout.also = func(p []byte) { req.Output(false, p) }
		stderr.also = func(p []byte) { req.Output(true, p) }
	}
	for i, program := range rt.programs {
		argv := append(append([]string(nil), program...), file)
		exited, err := client.Run(ctx, guest.Exec{
			Start: &guestv1.Start{
				ExecId:  fmt.Sprintf("%s-%d", execID, i),
				Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: argv}},
				Env:     rt.env,
				Cwd:     dir,
				Timeout: durationpb.New(req.Timeout),
			},
			Stdout: &stdout, Stderr: &stderr,
		})
		if err != nil {
			return ExecResult{}, execError(ctx, err)
		}
		if failure := exited.GetSpawnFailure(); failure != nil {
			missing := failure.GetKind() == guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND
			if missing && i+1 < len(rt.programs) {
				continue
			}
			return ExecResult{}, spawnError(rt, failure)
		}
		return execResult(exited, rt, execID, &stdout, &stderr), nil
	}
	return ExecResult{}, fmt.Errorf("%w: no program for %s", ErrNoInterpreter, rt.name)
}

func execResult(exited *guestv1.Exited, rt runtime, execID string, stdout, stderr *collector) ExecResult {
	r := ExecResult{
		ExecID: execID, Language: rt.name,
		ExitCode: int(exited.GetExitCode()), TimedOut: exited.GetTimedOut(), OOMKilled: exited.GetOomKilled(),
		PidsExhausted: exited.GetPidsExhausted(),
		Duration:      exited.GetDuration().AsDuration(), LeftRunning: int(exited.GetLeftRunning()),
		Stdout: stdout.output(exited.GetStdoutBytes()), Stderr: stderr.output(exited.GetStderrBytes()),
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

func spawnError(rt runtime, f *guestv1.SpawnFailure) error {
	what := plain(f.GetMessage(), maxGuestText)
	if f.GetKind() == guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND {
		names := make([]string, len(rt.programs))
		for i, p := range rt.programs {
			names[i] = p[0]
		}
		return fmt.Errorf("%w: %s code needs %s: %s", ErrNoInterpreter, rt.name, strings.Join(names, " or "), what)
	}
	return fmt.Errorf("%w: %s", ErrSpawn, what)
}

// execError differs from guestError in what the codes of Process.Run mean.
func execError(ctx context.Context, err error) error {
	switch connect.CodeOf(err) {
	case connect.CodeResourceExhausted:
		return fmt.Errorf("%w: %s", ErrSpawn, plain(guest.Text(err), maxGuestText))
	case connect.CodeFailedPrecondition, connect.CodeNotFound, connect.CodeAlreadyExists:
		return fmt.Errorf("%w: run the code: %s", ErrLost, plain(guest.Text(err), maxGuestText))
	default:
		return guestError(ctx, "run the code", err)
	}
}

// remove takes the file of an exec away without making the caller wait.
func (m *Manager) remove(id string, client *guest.Client, file string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return // Close has begun to wait
	}
	m.wg.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, execSlack)
		defer cancel()
		_, err := client.Filesystem().Remove(ctx, connect.NewRequest(&guestv1.FilesystemRemoveRequest{Path: file, MissingOk: true}))
		if err != nil && m.ctx.Err() == nil {
			m.log.Debug("file of an exec was not removed", "env", id, "error", err)
		}
	})
}

// checkExec checks a request and completes it, but for the language.
func (m *Manager) checkExec(req *ExecRequest) error {
	var errs []error
	if strings.TrimSpace(req.Code) == "" {
		errs = append(errs, invalid("code", "is empty: give the source to run"))
	}
	if len(req.Code) > MaxCode {
		errs = append(errs, invalid("code", "is %d bytes long, the most is %d: write data to files with write_file", len(req.Code), MaxCode))
	}
	if strings.ContainsRune(req.Code, 0) {
		errs = append(errs, invalid("code", "holds a NUL byte"))
	}
	if req.Language != "" {
		if _, err := m.runtimeOf("language", req.Language); err != nil {
			errs = append(errs, err)
		}
	}
	if req.Timeout < 0 || req.Timeout > m.cfg.ExecMax {
		errs = append(errs, invalid("timeout_seconds", "must be 1 to %d, or left out for %g",
			int(m.cfg.ExecMax.Seconds()), m.cfg.ExecDefault.Seconds()))
	}
	if req.Timeout == 0 {
		req.Timeout = m.cfg.ExecDefault
	}
	return errors.Join(errs...)
}
