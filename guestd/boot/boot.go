// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotFirst is returned to a process that does not own the machine.
var ErrNotFirst = errors.New("not the first process of a machine")

// initialPIDs is the initial pid namespace's number, PROC_PID_INIT_INO of the
// kernel's proc_ns.h since Linux 3.8.
const initialPIDs = "pid:[4026531836]"

// Owner says whether this process is the first of a machine that nobody has set
// up yet, was put in its place by stage 1, or was started there by the init of a
// boot disk of Waggle's. The first process of a container finds /proc mounted and
// is none, not even on such a disk.
func Owner() bool {
	if os.Getpid() != 1 {
		return false
	}
	if _, second := os.LookupEnv(handover); second {
		return true
	}
	var st unix.Statfs_t
	if unix.Statfs("/proc", &st) != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return true
	}
	_, err := os.Stat(bootFile)
	return err == nil && !contained()
}

// contained says whether this process lives in a pid namespace below the
// machine's. A kernel without such namespaces has no file for them.
func contained() bool {
	ns, err := os.Readlink("/proc/self/ns/pid")
	return !errors.Is(err, fs.ErrNotExist) && ns != initialPIDs
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
	if err := dropInitVariables(); err != nil {
		return err
	}
	if err := clearMounts(); err != nil {
		return err
	}
	if err := mountAll("/", kernelMounts); err != nil {
		return err
	}
	useConsole()
	if err := loadModules(m.log); err != nil {
		return err
	}
	m.watch.lap("modules")
	laid, err := makeRoot()
	if err != nil || !laid {
		return err
	}
	if err := switchRoot(m.log); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	m.watch.lap("root")
	return m.handOver(from.Guestd)
}

// makeRoot makes the machine's root. laid is false when that is the one which is
// there, an initial file system.
func makeRoot() (laid bool, err error) {
	image, scratch, err := disks()
	if err != nil {
		return false, err
	}
	if image != "" {
		if err := layRoot(image, scratch); err != nil {
			return false, fmt.Errorf("lay root: %w", err)
		}
		return true, nil
	}
	fixed, err := readOnly()
	if err != nil {
		return false, err
	}
	if fixed {
		if err := layMemory(); err != nil {
			return false, fmt.Errorf("lay root in memory: %w", err)
		}
		return true, nil
	}
	if err := mountAll("/", systemMounts); err != nil {
		return false, err
	}
	return false, makeStateDir("/")
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
