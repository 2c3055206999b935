// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
)

// prepare is the first stage. macOS has no jail: all that is done here is to name
// the directories of the libraries, which the dynamic loader takes only from a
// new program's environment. Untested.
func prepare(m spec.Machine) error {
	m.Confine, m.Reason = spec.Unconfined, "there is no jail on this system"
	m.Temp = filepath.Join(m.Dir, "tmp")
	if err := os.Mkdir(m.Temp, 0o700); err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	if err := passSpec(m); err != nil {
		return err
	}
	// Nothing has another name here than outside.
	if _, err := unix.Write(spec.ReportFD, []byte("{}")); err != nil {
		return fmt.Errorf("report to the supervisor: %w", err)
	}
	unix.Umask(0o077)
	dirs := filepath.Dir(m.Library) + ":" + filepath.Dir(m.Firmware)
	env := []string{"DYLD_LIBRARY_PATH=" + dirs, "TMPDIR=" + m.Temp, "GOTRACEBACK=none"}
	return fmt.Errorf("execute %s: %w", m.Runner, unix.Exec(m.Runner, []string{"waggle-krun", "enter"}, env))
}

// passSpec puts the machine where the next program reads it: into a pipe, which
// has room for it.
func passSpec(m spec.Machine) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode machine: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pass the machine on: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("pass the machine on: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("pass the machine on: %w", err)
	}
	if err := unix.Dup2(int(r.Fd()), spec.SpecFD); err != nil {
		return fmt.Errorf("pass the machine on: %w", err)
	}
	return nil
}
