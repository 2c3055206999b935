// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/stacklok/waggle/host/krun/lib"
	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/vmm"
)

// Exit codes that are not libkrun's.
const (
	exitOrphaned   = 3
	exitTerminated = 128 + int(syscall.SIGTERM)
)

// runMachine is the second stage: it configures libkrun and gives it the process.
func runMachine(m spec.Machine) error {
	go watchSupervisor(os.NewFile(spec.AliveFD, "supervisor"))
	// As process 1 of its namespace it would not get the signal unasked.
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		os.Exit(exitTerminated)
	}()
	// Who reads the console may be gone before the guest is.
	signal.Ignore(syscall.SIGPIPE)

	if m.KVM != "" {
		// libkrun would abort, and say so in Rust.
		kvm, err := vmm.OpenKVM(m.KVM)
		if err != nil {
			return err
		}
		if err := kvm.Close(); err != nil {
			return fmt.Errorf("close %s: %w", m.KVM, err)
		}
	}
	l, err := lib.Open(m.Library, m.Firmware)
	if err != nil {
		return err
	}
	ctx, err := l.Configure(m)
	if err != nil {
		return err
	}
	if err := report(m); err != nil {
		return err
	}
	return l.Enter(ctx)
}

// watchSupervisor ends the process, and the machine with it, when the supervisor
// is gone. Nothing else tells on macOS.
func watchSupervisor(alive *os.File) {
	_, _ = alive.Read(make([]byte, 1)) // nothing is ever written: any return is the end
	os.Exit(exitOrphaned)
}

// report tells the supervisor that all is configured.
func report(m spec.Machine) error {
	out := os.NewFile(spec.ReportFD, "report")
	if err := json.NewEncoder(out).Encode(spec.Report{Confine: m.Confine, Reason: m.Reason}); err != nil {
		return fmt.Errorf("report to the supervisor: %w", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("report to the supervisor: %w", err)
	}
	return nil
}
