// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/boot"
	"github.com/stacklok/waggle/guestd/reap"
	"github.com/stacklok/waggle/guestd/system"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
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
	ready := &guestv1.Ready{
		Agent: system.Agent(m), BootPhases: system.Phases(m), BootId: make([]byte, 16),
	}
	if _, err := rand.Read(ready.BootId); err != nil {
		return fmt.Errorf("draw boot id: %w", err)
	}
	group, groupCtx := errgroup.WithContext(vmCtx)
	group.Go(func() error {
		err := Serve(groupCtx, listener, Config{Machine: m, Reaper: reaper, User: workloadUID, Log: log})
		stop() // also ends an announcement under way
		return err
	})
	group.Go(func() error {
		protocol, err := m.Announce(groupCtx, ready)
		switch {
		case errors.Is(err, boot.ErrRefused):
			return err
		case err != nil && groupCtx.Err() == nil:
			// A host that does not listen may still connect.
			log.Warn("host not told", slog.Any("err", err))
		case err == nil:
			log.Info("ready", slog.Uint64("protocol", uint64(protocol)))
		}
		return nil
	})
	return group.Wait()
}
