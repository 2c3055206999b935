// SPDX-License-Identifier: Apache-2.0

//go:build linux

package contract

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// clockSlack is more than what keeping the time does to a clock in a test, and
// less than what the scenarios ask for.
const clockSlack = time.Second

// Untouched looks at the machine that the test runs on: its host name, its clock
// and /etc. The function that it returns looks again, and fails the test when
// they are not what they were.
func Untouched(t *testing.T) func() {
	t.Helper()
	before, clock := machine(t), clockOffset(t)
	return func() {
		t.Helper()
		require.Equal(t, before, machine(t), "the machine that runs the test was changed")
		require.InDelta(t, clock.Seconds(), clockOffset(t).Seconds(), clockSlack.Seconds(), "its clock was set")
	}
}

// Here is what a guestd offers that runs on this machine as an ordinary process.
func Here() Need {
	offers := Plain
	if os.Getuid() == 0 {
		offers |= Root
	}
	if _, err := exec.LookPath("python3"); err == nil {
		offers |= Python
	}
	return offers
}

// machine is the host name and all files of /etc. No program can set back the time
// of a file's last change, which follows every write and chmod.
func machine(t *testing.T) map[string]string {
	t.Helper()
	name, err := os.Hostname()
	require.NoError(t, err)
	seen := map[string]string{"host name": name}
	require.NoError(t, filepath.WalkDir("/etc", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what an ordinary user cannot see, a guestd of his cannot change
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		seen[path] = fmt.Sprint(info.Mode(), info.Size(), st.Ino, st.Uid, st.Gid, st.Ctim)
		return nil
	}))
	require.Greater(t, len(seen), 1)
	return seen
}

// clockOffset moves when the clock is set, and else only as it is kept right.
func clockOffset(t *testing.T) time.Duration {
	t.Helper()
	var wall, boot unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_REALTIME, &wall))
	require.NoError(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot))
	return time.Duration(wall.Nano() - boot.Nano())
}
