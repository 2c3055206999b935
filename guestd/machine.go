// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/boot"
	"github.com/stacklok/waggle/guestd/reap"
)

const (
	// endGrace is what processes get that no exec holds when the machine ends.
	endGrace = 500 * time.Millisecond
	// workloadUID runs the workload until Configure says otherwise.
	workloadUID = "1000"
)

// RunMachine boots the machine, serves it and powers it off at the end. It does
// not return, but for boot.ErrNotFirst.
func RunMachine(log *slog.Logger) error {
	m, err := boot.Start(log)
	if m == nil {
		return err
	}
	defer m.PowerOff()
	if err != nil {
		log.Error("boot failed, powering off", slog.Any("err", err))
		return err
	}
	reaper := reap.New()
	defer reaper.Close()
	if err := serveMachine(m, reaper, log); err != nil {
		log.Error("powering off", slog.Any("err", err))
	}
	m.EndProcesses(endGrace)
	return nil
}

// serveMachine returns when the machine is to end.
func serveMachine(m *boot.Machine, reaper *reap.Reaper, log *slog.Logger) error {
	vmCtx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGPWR)
	defer stop()
	// The default of the Go runtime for these is to end the process, and with
	// it the machine.
	swallowed := make(chan os.Signal, 1)
	signal.Notify(swallowed, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(swallowed)

	listener, err := m.Listen()
	if err != nil {
		return err
	}
	m.EndPhase("agent")
	cfg := Config{Machine: m, Reaper: reaper, User: workloadUID, Log: log}
	return ServeAnnounced(vmCtx, listener, cfg, m.Announce)
}
