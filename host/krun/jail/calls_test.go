// SPDX-License-Identifier: Apache-2.0

//go:build linux

package jail

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/seccomp"
)

// TestCalls: a VMM has threads, memory, files and its hypervisor, and no namespaces.
func TestCalls(t *testing.T) {
	t.Parallel()
	const eperm, enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	for name, c := range map[string]struct {
		nr   uint32
		args []uint64
		want uint32
	}{
		"ioctl":                 {unix.SYS_IOCTL, nil, unix.SECCOMP_RET_ALLOW},
		"mmap":                  {unix.SYS_MMAP, nil, unix.SECCOMP_RET_ALLOW},
		"openat":                {unix.SYS_OPENAT, nil, unix.SECCOMP_RET_ALLOW},
		"execve":                {unix.SYS_EXECVE, nil, unix.SECCOMP_RET_ALLOW}, // of the second stage
		"clone of a thread":     {unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD}, unix.SECCOMP_RET_ALLOW},
		"clone of a process":    {unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, unix.SECCOMP_RET_ALLOW},
		"clone of a user":       {unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, eperm},
		"clone of a network":    {unix.SYS_CLONE, []uint64{1<<40 | unix.CLONE_NEWNET}, eperm},
		"clone3":                {unix.SYS_CLONE3, nil, enosys},
		"ptrace":                {unix.SYS_PTRACE, nil, eperm},
		"open_by_handle_at":     {unix.SYS_OPEN_BY_HANDLE_AT, nil, eperm},
		"bpf":                   {unix.SYS_BPF, nil, eperm},
		"the last of its group": {unix.SYS_USERFAULTFD, nil, eperm},
	} {
		got, err := seccomp.Verdict(calls(), seccomp.Arch, c.nr, c.args...)
		require.NoError(t, err)
		require.Equal(t, c.want, got, name)
	}
	seen := map[uint32]bool{}
	for _, r := range calls() {
		require.False(t, seen[r.Nr], "the first of two rules for call %d hides the second", r.Nr)
		seen[r.Nr] = true
	}
}
