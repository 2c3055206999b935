// SPDX-License-Identifier: Apache-2.0

package envtest

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/host/environment"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// command is one that runs or ran. It is ended when nobody has followed it for a
// moment, unless it is to run on.
type command struct {
	start *guestv1.Start
	cmd   *exec.Cmd
	began time.Time
	pid   int32 // 0: it was never started
	stdin io.WriteCloser
	timer *time.Timer

	mu        sync.Mutex
	out       [2]bytes.Buffer
	changed   chan struct{} // closed and replaced with each change
	followers int
	timedOut  bool
	cancelled bool
	exited    *guestv1.Exited
}

// mapped are the places of the guest that a command names.
var mapped = []string{environment.Home, ImageDir, "/tmp/.waggle", "/tmp/.x"}

// start starts a command. One that cannot be started has ended already.
func (m *Machine) start(start *guestv1.Start) *command {
	argv := append([]string(nil), start.GetArgv().GetArgs()...)
	for i, a := range argv {
		for _, place := range mapped {
			if strings.HasPrefix(a, place) {
				argv[i] = m.path(a)
				break
			}
		}
	}
	c := &command{start: start, cmd: exec.Command(argv[0], argv[1:]...), began: time.Now(), changed: make(chan struct{})} //nolint:noctx // it outlives the call
	c.cmd.Dir = m.path(start.GetCwd())
	c.cmd.Env = os.Environ()
	for k, v := range start.GetEnv() {
		c.cmd.Env = append(c.cmd.Env, k+"="+v)
	}
	c.cmd.WaitDelay = 500 * time.Millisecond // what it left may hold its output
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.Stdout, c.cmd.Stderr = c.writer(0), c.writer(1)
	if start.GetStdinMode() == guestv1.StdinMode_STDIN_MODE_PIPE {
		c.stdin, _ = c.cmd.StdinPipe() // it fails for a command that has a Stdin
	}
	if err := c.cmd.Start(); err != nil {
		c.exited = &guestv1.Exited{Outcome: &guestv1.Exited_SpawnFailure{SpawnFailure: &guestv1.SpawnFailure{
			Kind: guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND, Message: err.Error(),
		}}}
		return c
	}
	c.pid = int32(c.cmd.Process.Pid)
	if limit := start.GetTimeout().AsDuration(); limit > 0 {
		c.timer = time.AfterFunc(limit, func() {
			c.mu.Lock()
			c.timedOut = c.exited == nil
			c.mu.Unlock()
			c.kill(false)
		})
	}
	return c
}

// wait is the command's goroutine.
func (c *command) wait() {
	if c.pid == 0 {
		return
	}
	_ = c.cmd.Wait() // how it ended is in ProcessState
	c.kill(false)    // what it left
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &guestv1.Exited{
		Duration: durationpb.New(time.Since(c.began)), TimedOut: c.timedOut, Cancelled: c.cancelled,
		StdoutBytes: uint64(c.out[0].Len()), StderrBytes: uint64(c.out[1].Len()),
	}
	switch status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); {
	case ok && status.Signaled():
		e.Outcome = &guestv1.Exited_Signal{Signal: int32(status.Signal())}
	default:
		e.Outcome = &guestv1.Exited_ExitCode{ExitCode: int32(c.cmd.ProcessState.ExitCode())}
	}
	c.exited = e
	c.changeLocked()
}

// kill ends all processes, and reports false when that was done before.
func (c *command) kill(cancelled bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exited != nil || c.pid == 0 {
		return false
	}
	c.cancelled = c.cancelled || cancelled
	_ = syscall.Kill(-int(c.pid), syscall.SIGKILL) // they may have ended
	return true
}

// follow counts who follows it.
func (c *command) follow(n int) {
	c.mu.Lock()
	c.followers += n
	lost := c.followers == 0 && c.exited == nil && c.start.GetOnDetach() == guestv1.DetachPolicy_DETACH_POLICY_UNSPECIFIED
	c.mu.Unlock()
	if lost {
		c.kill(true)
	}
}

func (c *command) info() *guestv1.ExecInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &guestv1.ExecInfo{
		ExecId: c.start.GetExecId(), Pid: c.pid, StartedAt: timestamppb.New(c.began), Exited: c.exited,
		StdoutBytes: uint64(c.out[0].Len()), StderrBytes: uint64(c.out[1].Len()),
	}
}

func (c *command) changeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (c *command) writer(stream int) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changeLocked()
		return c.out[stream].Write(p)
	})
}

// maxSend is the most of one message, in bytes.
const maxSend = 64 << 10

// send copies the output to a stream until the command has ended.
func (c *command) send(ctx context.Context, s *runStream, from *guestv1.Cursor) error {
	at := [2]int{int(from.GetStdoutOffset()), int(from.GetStderrOffset())}
	for {
		c.mu.Lock()
		var msgs []*guestv1.ProcessRunResponse
		for i := range at {
			all := c.out[i].Bytes()
			p := bytes.Clone(all[min(at[i], len(all)):min(at[i]+maxSend, len(all))])
			if len(p) == 0 {
				continue
			}
			o := &guestv1.Output{Offset: uint64(at[i]), Data: p}
			at[i] += len(p)
			if i == 0 {
				msgs = append(msgs, &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Stdout{Stdout: o}})
			} else {
				msgs = append(msgs, &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Stderr{Stderr: o}})
			}
		}
		exited, changed := c.exited, c.changed
		c.mu.Unlock()
		for _, m := range msgs {
			if err := s.Send(m); err != nil {
				return err
			}
		}
		if len(msgs) > 0 {
			continue
		}
		if exited != nil {
			return s.Send(&guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Exited{Exited: exited}})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
