// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstFD is the number of the first inherited descriptor in the child.
	firstFD = 3
	// maxTail bounds what is kept of QEMU's standard error.
	maxTail = 4 << 10
	// pipeDelay bounds the wait for standard error after the exit, should
	// another process hold it.
	pipeDelay = time.Second
)

// process is a running VMM.
type process struct {
	cmd    *exec.Cmd
	output tail
	// exited is closed when the process has been waited for; state is valid
	// from then on.
	exited chan struct{}
}

// spawn starts binary with files as its descriptors from firstFD on; the caller
// still owns files. cred may be nil.
//
// The child gets SIGKILL when the *thread* that forked it ends (prctl(2),
// PR_SET_PDEATHSIG). So that thread is locked to the goroutine that waits for
// the child, and both live as long as it. The thread also carries
// no_new_privs, which the child inherits; it is never given back to the
// runtime.
func spawn(binary string, args []string, files []*os.File, cred *syscall.Credential) (*process, error) {
	p := &process{exited: make(chan struct{})}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir = "/"
	p.cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"}
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.WaitDelay = pipeDelay
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: cred,
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
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
		if cred != nil && errors.Is(err, syscall.EPERM) {
			return nil, fmt.Errorf("start qemu as uid %d: %w (needs CAP_SETUID, CAP_SETGID and CAP_KILL)", cred.Uid, err)
		}
		return nil, fmt.Errorf("start qemu: %w", err)
	}
	return p, nil
}

// kill cuts the power. It does nothing to a process that has ended.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// killed tells whether the process ended by SIGKILL, ours or another's.
func (p *process) killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// failure describes an exit that nobody asked for.
func (p *process) failure() error {
	text := p.output.String()
	if p.killed() && text == "" {
		return errors.New("qemu: killed from outside, perhaps because the host ran out of memory")
	}
	if text == "" {
		return fmt.Errorf("qemu: %s", p.cmd.ProcessState)
	}
	return fmt.Errorf("qemu: %s (%s)", text, p.cmd.ProcessState)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
	cut  bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p[max(0, len(p)-maxTail):]...)
	if over := len(t.data) - maxTail; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
		t.cut = true
	}
	return len(p), nil
}

// String is the text on one line, without the program's name that QEMU puts in
// front of each message.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(t.data)) {
		line = strings.TrimSpace(line)
		if program, message, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(program, "qemu-system-") {
			line = message
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	text := strings.Join(lines, "; ")
	if t.cut {
		text = "… " + text
	}
	return text
}
