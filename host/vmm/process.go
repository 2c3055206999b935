// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const (
	// FirstFD is the number of the first inherited descriptor in the child.
	FirstFD = 3
	// pipeDelay bounds the wait for standard error after the exit, should
	// another process hold it.
	pipeDelay = time.Second
)

// Command is a VMM to be started.
type Command struct {
	// Name is what errors call it.
	Name string
	Path string
	Args []string
	// Env is the whole environment.
	Env []string
	// Files become its descriptors from FirstFD on; the caller still owns them.
	Files []*os.File
	// Attr may ask for a credential, namespaces and capabilities. Session and
	// parent-death signal are Spawn's.
	Attr syscall.SysProcAttr
	// Quiet shortens a line of its output; see Tail. May be nil.
	Quiet func(line string) string
}

// Process is a running VMM.
type Process struct {
	name   string
	cmd    *exec.Cmd
	output Tail
	exited chan struct{}
}

// Spawn starts the command in a session of its own, in the root directory and
// with nothing on its standard input. What it says is kept (Tail).
//
// On Linux the child gets SIGKILL when the *thread* that forked it ends
// (prctl(2), PR_SET_PDEATHSIG). So that thread is locked to the goroutine that
// waits for the child, and both live as long as it. The thread also carries
// no_new_privs, which the child inherits; it is never given back to the
// runtime. Elsewhere the child has to watch a pipe of its parent's.
func Spawn(c Command) (*Process, error) {
	p := &Process{name: c.Name, exited: make(chan struct{}), output: Tail{short: c.Quiet}}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Dir = "/"
	p.cmd.Env = c.Env
	p.cmd.ExtraFiles = c.Files
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.WaitDelay = pipeDelay
	attr := c.Attr
	attr.Setsid = true
	dieWithParent(&attr)
	p.cmd.SysProcAttr = &attr
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := restrictThread()
		if err == nil {
			err = p.cmd.Start()
		}
		started <- err
		if err != nil {
			return
		}
		// The exit status is in cmd.ProcessState, whatever Wait says.
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		if cred := c.Attr.Credential; cred != nil && errors.Is(err, syscall.EPERM) {
			return nil, fmt.Errorf("start %s as uid %d: %w (needs CAP_SETUID, CAP_SETGID and CAP_KILL)", c.Name, cred.Uid, err)
		}
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	return p, nil
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has been waited for. State, Killed and
// Failure are valid from then on.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// State is how it ended.
func (p *Process) State() *os.ProcessState { return p.cmd.ProcessState }

// Kill cuts the power. It does nothing to a process that has ended.
func (p *Process) Kill() { _ = p.cmd.Process.Kill() }

// Killed tells whether the process ended by SIGKILL, ours or another's.
func (p *Process) Killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Failure describes an exit that nobody asked for.
func (p *Process) Failure() error {
	text := p.output.String()
	if p.Killed() && text == "" {
		return fmt.Errorf("%s: killed from outside, perhaps because the host ran out of memory", p.name)
	}
	if text == "" {
		return fmt.Errorf("%s: %s", p.name, p.cmd.ProcessState)
	}
	return fmt.Errorf("%s: %s (%s)", p.name, text, p.cmd.ProcessState)
}
