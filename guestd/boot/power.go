// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// syncLimit bounds the wait for the disks: the power goes in any case.
	syncLimit = 10 * time.Second
	// killPause lets killed processes let go of their files.
	killPause = 50 * time.Millisecond
)

// powerOff is the way to leave a VMM, as boot.json names it.
type powerOff string

// The values of powerOff.
const (
	// offByPower is the default.
	offByPower powerOff = "off"
	// offByRestart is for VMMs that take a restart for the end, and to whom an
	// x86 kernel without ACPI has no other way: there, off halts the CPUs for ever.
	offByRestart powerOff = "restart"
)

// UnmarshalText refuses what this guestd does not know: a machine that cannot be
// left must not come up.
func (o *powerOff) UnmarshalText(text []byte) error {
	switch got := powerOff(text); got {
	case "", offByPower, offByRestart:
		*o = got
		return nil
	}
	return fmt.Errorf("power_off %q is neither %q nor %q", text, offByPower, offByRestart)
}

// command is the argument of reboot(2).
func (o powerOff) command() int {
	if o == offByRestart {
		return unix.LINUX_REBOOT_CMD_RESTART
	}
	return unix.LINUX_REBOOT_CMD_POWER_OFF
}

// EndProcesses sends SIGTERM to every process but guestd, waits until none is
// left or grace has passed, and sends SIGKILL. Somebody else must reap.
func (m *Machine) EndProcesses(grace time.Duration) {
	if alone() {
		return
	}
	_ = unix.Kill(-1, unix.SIGTERM) // fails only when all have ended
	tick := time.NewTicker(killPause)
	defer tick.Stop()
	deadline := time.After(grace)
	for {
		select {
		case <-tick.C:
			if alone() {
				return
			}
		case <-deadline:
			_ = unix.Kill(-1, unix.SIGKILL) // as above
			<-tick.C
			return
		}
	}
}

// alone says whether no process but guestd and the kernel's threads is left.
// Those descend from kthreadd, process 2; orphans become children of process 1.
func alone() bool {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return false // cannot happen: the pattern is right
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // ended
		}
		// "pid (name) state ppid …"; the name may hold anything.
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
		pid := filepath.Base(filepath.Dir(path))
		if len(fields) < 2 || pid == "1" || pid == "2" || string(fields[1]) == "2" || fields[0][0] == 'Z' {
			continue
		}
		return false
	}
	return true
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
	if err := unix.Reboot(m.off.command()); err != nil {
		m.log.Error("no power off", slog.Any("err", err))
	}
	// The end of the first process panics the kernel, which then ends the
	// machine (panic=-1).
	os.Exit(1)
}
