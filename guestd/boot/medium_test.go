// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestParseMedium(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		json    string
		command int
		bad     string
	}{
		{`{}`, unix.LINUX_REBOOT_CMD_POWER_OFF, ""},
		{`{"modules":["00-a.ko"],"guestd":{"digest":"sha256:1"}}`, unix.LINUX_REBOOT_CMD_POWER_OFF, ""},
		{`{"power_off":"off"}`, unix.LINUX_REBOOT_CMD_POWER_OFF, ""},
		{`{"power_off":"restart"}`, unix.LINUX_REBOOT_CMD_RESTART, ""},
		{`{"power_off":"halt"}`, 0, `power_off "halt"`},
		{`{"power_off":`, 0, "parse boot.json"},
	} {
		got, err := parseMedium([]byte(tc.json))
		if tc.bad != "" {
			require.ErrorContains(t, err, tc.bad)
			continue
		}
		require.NoError(t, err, tc.json)
		require.Equal(t, tc.command, got.PowerOff.command(), tc.json)
	}
}

// TestDropInitVariables is not parallel: it changes the variables of this process.
func TestDropInitVariables(t *testing.T) {
	t.Setenv("KRUN_INIT_PID1", "1")
	t.Setenv("KRUN_BLOCK_ROOT_DEVICE", "/dev/vda")
	t.Setenv("WAGGLE_KRUN_TEST", "stays")
	require.NoError(t, dropInitVariables())
	require.NotContains(t, strings.Join(os.Environ(), "\n"), "\nKRUN_")
	require.Equal(t, "stays", os.Getenv("WAGGLE_KRUN_TEST"))
}

const containedEnv = "WAGGLE_TEST_CONTAINED"

// TestMain is the first process of a container in a child of TestContained.
func TestMain(m *testing.M) {
	if os.Getenv(containedEnv) == "" {
		os.Exit(m.Run())
	}
	fmt.Printf("pid %d, contained %t", os.Getpid(), contained())
}

// TestContained: what looks like the first process of a machine may be that of a
// container, which must not take the machine for its own. That the first process
// of a machine is seen as such is tested in one (host/vmtest/bootdisk).
func TestContained(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), containedEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
	}
	out, err := cmd.Output()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
		t.Skipf("this machine lets a user have no user namespace: %v", err)
	}
	require.NoError(t, err)
	require.Equal(t, "pid 1, contained true", string(out))
}
