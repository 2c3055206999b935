// SPDX-License-Identifier: Apache-2.0

//go:build linux

package seccomp_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/seccomp"
)

// TestRestrict: the kernel answers as Verdict says, and other threads go on as before.
func TestRestrict(t *testing.T) {
	t.Parallel()
	rules := append(seccomp.Refuse(unix.EXDEV, unix.SYS_GETPPID),
		seccomp.Rule{Nr: unix.SYS_SOCKET, Errno: unix.EPROTO, Checks: seccomp.Equal(unix.AF_INET, 0)},
		seccomp.Rule{Nr: unix.SYS_MEMFD_CREATE, Errno: unix.ENOTBLK, Checks: seccomp.AnyBit(unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING, 1)})
	calls := []struct {
		nr, a, b uintptr
		want     unix.Errno
	}{
		{unix.SYS_GETPPID, 0, 0, unix.EXDEV},
		{unix.SYS_SOCKET, unix.AF_INET, 1 << 40, unix.EPROTO},
		{unix.SYS_SOCKET, 1<<32 | unix.AF_INET, 0, unix.EPROTO}, // as the kernel reads an int
		{unix.SYS_SOCKET, 999, 0, unix.EAFNOSUPPORT},
		{unix.SYS_MEMFD_CREATE, 0, unix.MFD_CLOEXEC, unix.ENOTBLK},
		{unix.SYS_MEMFD_CREATE, 0, 0, unix.EFAULT},
	}
	got := make([]unix.Errno, len(calls))
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with it
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = seccomp.Restrict(rules)
		}
		for i, c := range calls {
			_, _, got[i] = unix.RawSyscall(c.nr, c.a, c.b, 0)
		}
		done <- err
	}()
	require.NoError(t, <-done)
	for i, c := range calls {
		require.Equal(t, c.want, got[i], "call %d", i)
		verdict, err := seccomp.Verdict(rules, seccomp.Arch, uint32(c.nr), uint64(c.a), uint64(c.b))
		require.NoError(t, err)
		refused := verdict != unix.SECCOMP_RET_ALLOW
		require.Equal(t, refused, verdict == unix.SECCOMP_RET_ERRNO|uint32(c.want), "call %d", i)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	require.Zero(t, errno)
}
