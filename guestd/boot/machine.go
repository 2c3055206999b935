// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Origin is where the running guestd came from.
type Origin int

// The values of Origin.
const (
	OriginHost  Origin = iota + 1 // stage 1
	OriginImage                   // stage 2
)

// Machine is the right to change the machine. Start makes the only one. Its
// methods may be called concurrently unless they say otherwise; a nil Machine
// stands for a guestd that owns none.
type Machine struct {
	log    *slog.Logger
	origin Origin
	watch  stopwatch // written by Start and EndPhase only
	off    powerOff
	// refused says why the image's guestd is not used, if it has one.
	refused string

	workload workload
}

// Origin is where this guestd came from.
func (m *Machine) Origin() Origin { return m.origin }

// ImageAgentRefused says why the guestd that the image has was not used; empty
// when it has none, or was.
func (m *Machine) ImageAgentRefused() string {
	if m == nil {
		return ""
	}
	return m.refused
}

// Phases are the steps of the boot so far.
func (m *Machine) Phases() []Phase { return slices.Clone(m.watch.Phases) }

// EndPhase ends the phase that runs. Not to be called concurrently with Phases.
func (m *Machine) EndPhase(name string) { m.watch.lap(name) }

// StateDir returns a directory that only root can enter, for what guestd keeps
// while the machine runs: on the scratch disk, in memory when there is none.
func (m *Machine) StateDir() string {
	if dir := filepath.Join(scratchDir, "state"); isDir(dir) {
		return dir
	}
	return StateDir
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// SetHostname sets the kernel's host name.
func (m *Machine) SetHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	return nil
}

// SetClock sets the wall clock.
func (m *Machine) SetClock(t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return fmt.Errorf("set clock to %s: %w", t, err)
	}
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	return nil
}

// WriteFile replaces a file of the system, making parents. Links are followed,
// as in a write by hand, but for one that leads nowhere, which is replaced: the
// resolv.conf of many images points into a directory that no service fills.
func (m *Machine) WriteFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make parents of %s: %w", path, err)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	tmp := path + ".waggle"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp) // the rename's error tells more
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// Symlink makes path a link to target, in the place of nothing.
func (m *Machine) Symlink(target, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make parents of %s: %w", path, err)
	}
	if err := os.Symlink(target, path); err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	return nil
}

// MakeHome makes a directory that belongs to a user. One that exists is given
// to the user when it belongs to root, with nothing below it.
func (m *Machine) MakeHome(path string, uid, gid int) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("make home: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("stat home %s: %w", path, err)
	}
	if st.Uid != 0 || path == "/" {
		return nil
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return fmt.Errorf("give home to user: %w", err)
	}
	return nil
}
