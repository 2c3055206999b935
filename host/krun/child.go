// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vmm"
)

const (
	// specLimit bounds the writing of the spec: a pipe has room for it.
	specLimit = 10 * time.Second
	// maxReport bounds the report, in bytes, with the paths before it.
	maxReport = 64 << 10
)

// child is a running waggle-krun with its owner's ends of its pipes.
type child struct {
	proc   *vmm.Process
	alive  *os.File // its end tells the child that the owner is gone
	report *os.File
}

// launch starts waggle-krun with m: in namespaces, or where these are refused
// without, and then it knows why.
func (b *Backend) launch(m spec.Machine, nic *vm.NIC) (child, error) {
	c, err := b.spawn(m, nic, isolated(m.User))
	if err != nil && m.Confine == spec.Namespaces && refused(err) {
		m.Confine, m.Reason = spec.Landlock, err.Error()
		return b.spawn(m, nic, syscall.SysProcAttr{})
	}
	return c, err
}

// refused tells a kernel that gives no namespaces: none to this user, none at all,
// or no more of them.
func refused(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.ENOSYS, syscall.ENOSPC, syscall.EUSERS,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// spawn starts the process and tells it its machine.
func (b *Backend) spawn(m spec.Machine, nic *vm.NIC, attr syscall.SysProcAttr) (c child, err error) {
	var theirs, ours []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close() // the child has its own copy
		}
		if err != nil {
			for _, f := range ours {
				_ = f.Close()
			}
		}
	}()
	var specW *os.File
	for _, p := range []struct {
		ours         **os.File
		theirsWrites bool
	}{{&specW, false}, {&c.alive, false}, {&c.report, true}} { // in the order of spec's descriptors
		r, w, err := os.Pipe()
		if err != nil {
			return child{}, fmt.Errorf("start waggle-krun: %w", err)
		}
		if p.theirsWrites {
			r, w = w, r
		}
		*p.ours = w
		theirs, ours = append(theirs, r), append(ours, w)
	}
	if nic != nil {
		file, err := nic.Conn.File()
		if err != nil {
			return child{}, fmt.Errorf("take over network connection: %w", err)
		}
		theirs = append(theirs, file)
	}
	c.proc, err = vmm.Spawn(vmm.Command{
		Name: "waggle-krun", Path: b.cfg.Runner, Files: theirs, Quiet: withoutStamp, Attr: attr, Env: childEnv(),
	})
	if err != nil {
		return child{}, err
	}
	if err := writeSpec(specW, m); err != nil {
		c.proc.Kill()
		<-c.proc.Exited()
		if c.proc.State().Success() {
			return child{}, b.wordless()
		}
		return child{}, fmt.Errorf("%w: %w", err, c.proc.Failure())
	}
	return c, nil
}

// wordless is a program that was content with what it was told, or with nothing.
func (b *Backend) wordless() error {
	return fmt.Errorf("%w: %s ended without a word: run `waggle doctor`", ErrUnfitRunner, b.cfg.Runner)
}

func writeSpec(w *os.File, m spec.Machine) error {
	defer w.Close()
	if err := w.SetWriteDeadline(time.Now().Add(specLimit)); err != nil {
		return fmt.Errorf("tell waggle-krun its machine: %w", err)
	}
	if err := json.NewEncoder(w).Encode(m); err != nil {
		return fmt.Errorf("tell waggle-krun its machine: %w", err)
	}
	return nil
}

// childEnv is the whole environment of the first stage.
func childEnv() []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"}
	if dirs := os.Getenv("LD_LIBRARY_PATH"); dirs != "" {
		env = append(env, "LD_LIBRARY_PATH="+dirs)
	}
	return env
}

// readReport returns when libkrun is about to enter the machine, or with an error
// when ctx ends or the process does. What the jail shows is known even then, if the
// first stage came so far.
func (c *child) readReport(ctx context.Context) (spec.Report, spec.Shown, error) {
	defer c.report.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.report.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var shown spec.Shown
	var r spec.Report
	in := json.NewDecoder(io.LimitReader(c.report, maxReport))
	err := in.Decode(&shown)
	if err == nil {
		err = in.Decode(&r)
	}
	if err != nil {
		return r, shown, fmt.Errorf("wait for its report: %w", err)
	}
	return r, shown, nil
}

// withoutStamp takes off what libkrun's log puts in front of a line, as in
// "[2026-02-09T12:00:00Z ERROR krun] Building the microVM failed".
func withoutStamp(line string) string {
	if stamp, text, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(stamp, "[") {
		return text
	}
	return line
}
