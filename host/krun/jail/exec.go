// SPDX-License-Identifier: Apache-2.0

//go:build linux

package jail

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/seccomp"
)

// Exec shuts this process in and becomes stage two of m. It returns only with an
// error, after which the process is of no further use. Other goroutines may run,
// but must not open descriptors that are inherited.
func Exec(m spec.Machine) error {
	runtime.LockOSThread() // credentials and Landlock are the thread's
	if err := keepOut(m); err != nil {
		return err
	}
	p, err := newPlan(m)
	if err != nil {
		return err
	}
	env := []string{
		"LD_LIBRARY_PATH=" + libPath, "TMPDIR=" + tempPath,
		// libkrun's words would drown in the stacks of a program that it aborts.
		"GOTRACEBACK=none",
	}
	reason := m.Reason
	confined := false
	if m.Confine == spec.Namespaces {
		err := p.build(m.Dir, m.User)
		var refused *refusedError
		switch {
		case err == nil:
			confined = true
		case !errors.As(err, &refused):
			return fmt.Errorf("build the jail: %w", err)
		default:
			reason = err.Error()
		}
	}
	var rules []rule
	version := 0
	if !confined {
		if rules, version, err = p.outside(m, reason); err != nil {
			return err
		}
		env[0] = "LD_LIBRARY_PATH=" + p.libraryDirs()
		env[1] = "TMPDIR=" + p.inner.Temp
	}
	if err := passSpec(p.inner); err != nil {
		return err
	}
	if err := reportShown(p.shown()); err != nil {
		return fmt.Errorf("report to the supervisor: %w", err)
	}
	unix.Umask(0o077)
	if err := shed(m.User); err != nil {
		return err
	}
	if !confined {
		if err := restrict(version, rules); err != nil {
			return fmt.Errorf(errUnconfined, reason, err)
		}
	}
	// The next program has the filter from its first instruction on, in all threads.
	if err := seccomp.Restrict(calls()); err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", p.inner.Runner, unix.Exec(p.inner.Runner, []string{"waggle-krun", "enter"}, env))
}

// keepOut closes, for the next program, all descriptors but those that spec gives
// it. Whoever started the supervisor may have left it others, which every child
// inherits: a shell's, say.
func keepOut(m spec.Machine) error {
	last := spec.ReportFD
	if m.MAC != "" {
		last = spec.NICFD
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list descriptors: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > last {
			unix.CloseOnExec(fd) // one of them is the list's, and closed by now
		}
	}
	return nil
}

// passSpec puts the inner machine where the next program reads it.
func passSpec(m spec.Machine) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode machine: %w", err)
	}
	fd, err := unix.MemfdCreate("waggle-machine", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("pass the machine on: %w", err)
	}
	if err := writeAll(fd, text); err != nil {
		return fmt.Errorf("pass the machine on: %w", err)
	}
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return fmt.Errorf("pass the machine on: %w", err)
	}
	if err := unix.Dup3(fd, spec.SpecFD, 0); err != nil {
		return fmt.Errorf("pass the machine on: %w", err)
	}
	return nil
}

// reportShown says what is what before the next program can fail. It makes no
// os.File, which would close the descriptor that the next program needs.
func reportShown(shown spec.Shown) error {
	text, err := json.Marshal(shown)
	if err != nil {
		return err
	}
	return writeAll(spec.ReportFD, text)
}

func writeAll(fd int, text []byte) error {
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}
