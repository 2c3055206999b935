// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// syncLimit bounds the wait for the disks: the power goes in any case.
	syncLimit = 10 * time.Second
	// killPause lets killed processes let go of their files.
	killPause = 50 * time.Millisecond
)

// EndProcesses sends SIGTERM to every process but guestd, waits until none is
// left or grace has passed, and sends SIGKILL. Somebody else must reap.
func (m *Machine) EndProcesses(grace time.Duration) {
	if errors.Is(unix.Kill(-1, unix.SIGTERM), unix.ESRCH) {
		return
	}
	tick := time.NewTicker(killPause)
	defer tick.Stop()
	deadline := time.After(grace)
	for {
		select {
		case <-tick.C:
			// Kernel threads take no signals, so ESRCH means that we are alone.
			if errors.Is(unix.Kill(-1, 0), unix.ESRCH) {
				return
			}
		case <-deadline:
			if err := unix.Kill(-1, unix.SIGKILL); err == nil {
				<-tick.C
			}
			return
		}
	}
}

// PowerOff writes what is not on the disks yet and cuts the power. It does not
// return.
func (m *Machine) PowerOff() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		unix.Sync()
		for _, target := range []string{"/", scratchDir} {
			err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
			if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
				m.log.Warn("not remounted read-only", slog.String("path", target), slog.Any("err", err))
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(syncLimit):
		m.log.Warn("disks still busy, power goes")
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		m.log.Error("no power off", slog.Any("err", err))
	}
	// The end of the first process panics the kernel, which then ends the
	// machine (panic=-1).
	os.Exit(1)
}
