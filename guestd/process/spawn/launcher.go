// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/reap"
	"github.com/stacklok/waggle/seccomp"
)

// rootCapabilities is what package managers need of root, and all that as_root
// keeps. Left out are, among others, SYS_ADMIN, SYS_MODULE, SYS_BOOT, SYS_TIME,
// SYS_PTRACE, NET_ADMIN, NET_RAW, MKNOD, which would reach the disks, and KILL,
// which would reach guestd.
var rootCapabilities = []int{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID,
	unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETFCAP,
	unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT,
}

// Launcher starts processes. Its methods may be called concurrently; commands
// of one kind are forked one after the other.
type Launcher struct {
	reaper   *reap.Reaper
	workload *thread
	root     *thread
}

// NewLauncher prepares the two threads. enter is called on each of them before it
// gives up privileges, to take it where the commands shall live; it may be nil.
func NewLauncher(reaper *reap.Reaper, enter func() error) (*Launcher, error) {
	workload, err := newThread(enter, nil)
	if err != nil {
		return nil, err
	}
	root, err := newThread(enter, rootCapabilities)
	if err != nil {
		workload.close()
		return nil, err
	}
	return &Launcher{reaper: reaper, workload: workload, root: root}, nil
}

// Close ends the threads, after the commands that are being started.
func (l *Launcher) Close() {
	l.workload.close()
	l.root.close()
}

// Command is what is to be started. Dir is absolute.
type Command struct {
	Argv  []string
	Env   []string
	Dir   string
	User  *User
	Root  bool // with rootCapabilities
	Stdio []*os.File
	Pty   bool     // Stdio[0] becomes the controlling terminal
	Group *os.File // directory of the control group, or nil
}

// Start starts a command as the leader of a new session. An error is always a
// *Failure.
func (l *Launcher) Start(cmd *Command) (*reap.Child, error) {
	t := l.workload
	if cmd.Root {
		t = l.root
	}
	// A program that was written a moment ago may still be open for writing in
	// a child between its fork and exec; that passes within milliseconds
	// (golang/go#22315).
	for wait := time.Millisecond; ; wait *= 2 {
		var (
			child *reap.Child
			err   error
		)
		t.do(func() { child, err = l.start(cmd) })
		if !errors.Is(err, unix.ETXTBSY) || wait > 32*time.Millisecond {
			return child, err
		}
		<-time.After(wait)
	}
}

// start runs on a launcher thread.
func (l *Launcher) start(cmd *Command) (*reap.Child, error) {
	program, fail := resolve(cmd)
	if fail != nil {
		return nil, fail
	}
	attr := &syscall.ProcAttr{
		Dir: cmd.Dir,
		Env: cmd.Env,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: cmd.Pty, Credential: cmd.User.credential()},
	}
	for _, f := range cmd.Stdio {
		attr.Files = append(attr.Files, f.Fd())
	}
	if cmd.Group != nil {
		attr.Sys.UseCgroupFD = true
		attr.Sys.CgroupFD = int(cmd.Group.Fd())
		if os.Geteuid() == 0 {
			// With a cgroup2 mount that has nsdelegate, the kernel lets nobody
			// out of this namespace into another group, not even root
			// (cgroup-v2, "Delegation Containment").
			attr.Sys.Unshareflags = unix.CLONE_NEWCGROUP
		}
	}
	child, err := l.reaper.Start(func() (int, error) { return syscall.ForkExec(program, cmd.Argv, attr) })
	runtime.KeepAlive(cmd)
	if err != nil {
		return nil, execFailure(program, err)
	}
	return child, nil
}

// thread is a locked thread with privileges that were given up for good.
type thread struct {
	calls chan func()
	done  chan struct{}
}

func newThread(enter func() error, keep []int) (*thread, error) {
	t := &thread{calls: make(chan func()), done: make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		defer close(t.done)
		// Never unlocked: when this goroutine ends, the runtime ends the thread.
		runtime.LockOSThread()
		err := confine(enter, keep)
		ready <- err
		if err != nil {
			return
		}
		for call := range t.calls {
			call()
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	return t, nil
}

// do runs fn on the thread and returns when it has returned.
func (t *thread) do(fn func()) {
	done := make(chan struct{})
	t.calls <- func() { defer close(done); fn() }
	<-done
}

func (t *thread) close() {
	close(t.calls)
	<-t.done
}

// commandSlack is the kernel's default for the timers of a process, in ns.
const commandSlack = 50_000

// confine sets no_new_privs on the calling thread, drops all capabilities but keep
// from its bounding set (capabilities(7)) and filters its system calls. The thread
// itself keeps the capabilities that it has, which it needs to change the user of
// its children. Their timers are as exact as anybody's.
func confine(enter func() error, keep []int) error {
	if enter != nil {
		if err := enter(); err != nil {
			return err
		}
	}
	// Not guestd's, which package boot sets.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, commandSlack, 0, 0, 0); err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := dropCapabilities(keep); err != nil {
		return err
	}
	return seccomp.Restrict(rules())
}

func dropCapabilities(keep []int) error {
	if os.Geteuid() != 0 {
		return nil // not root, so nothing can be gained or dropped
	}
	kept := make(map[int]bool)
	for _, c := range keep {
		kept[c] = true
	}
	for c := 0; c <= 63; c++ {
		if kept[c] {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // past the last one that this kernel knows
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}
