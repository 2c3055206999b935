// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotFirst is returned to a process that does not own the machine.
var ErrNotFirst = errors.New("not the first process of a machine")

// Owner says whether this process is the first of a machine that nobody has set
// up yet, or was put in its place by stage 1. The first process of a container
// finds /proc mounted and is none.
func Owner() bool {
	if os.Getpid() != 1 {
		return false
	}
	if _, second := os.LookupEnv(handover); second {
		return true
	}
	var st unix.Statfs_t
	return unix.Statfs("/proc", &st) != nil || st.Type != unix.PROC_SUPER_MAGIC
}

// Start sets the machine up and returns its only Machine. Called once. After an
// error the machine is of no use; the Machine that comes with it can still be
// powered off.
func Start(log *slog.Logger) (*Machine, error) {
	if !Owner() {
		return nil, ErrNotFirst
	}
	m := &Machine{log: log, origin: OriginHost}
	left, second, err := takeOver()
	if err != nil {
		return m, err
	}
	if second {
		m.origin, m.watch, m.off = OriginImage, left.stopwatch, left.PowerOff
	} else if err := m.stageOne(); err != nil {
		return m, err
	}
	return m, settle(log)
}

// stageOne returns when this process is to go on as the agent.
func (m *Machine) stageOne() error {
	m.watch.lap("kernel")
	// First, because it says how to power off after an error.
	from, err := readMedium()
	if err != nil {
		return err
	}
	m.off = from.PowerOff
	if err := mountAll("/", kernelMounts); err != nil {
		return err
	}
	useConsole()
	if err := loadModules(m.log); err != nil {
		return err
	}
	m.watch.lap("modules")
	image, scratch, err := disks()
	if err != nil {
		return err
	}
	if image == "" {
		if err := mountAll("/", systemMounts); err != nil {
			return err
		}
		return makeStateDir("/")
	}
	if err := layRoot(image, scratch); err != nil {
		return fmt.Errorf("lay root: %w", err)
	}
	if err := switchRoot(m.log); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	m.watch.lap("root")
	if bakedAgent(from.Guestd, m.log) {
		if err := execBaked(handed{m.watch, m.off}); err != nil {
			m.log.Warn("going on with the host's guestd", slog.Any("err", err))
		}
	}
	return nil
}

// useConsole points the standard streams at the console, which the kernel could
// not open when the boot medium had no node for it.
func useConsole() {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // a machine without a console
	}
	defer unix.Close(fd)
	for std := range 3 {
		_ = unix.Dup3(fd, std, 0) // cannot fail for an open descriptor
	}
}
