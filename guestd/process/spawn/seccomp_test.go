// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/identity"
	"github.com/stacklok/waggle/guestd/reap"
	"github.com/stacklok/waggle/seccomp"
)

const (
	allowed = unix.SECCOMP_RET_ALLOW
	refused = unix.SECCOMP_RET_ERRNO
	killed  = unix.SECCOMP_RET_KILL_PROCESS
)

// verdict runs the filter on a system call.
func verdict(t *testing.T, arch, nr uint32, args ...uint64) uint32 {
	t.Helper()
	v, err := seccomp.Verdict(rules(), arch, nr, args...)
	require.NoError(t, err)
	return v
}

func TestFilter(t *testing.T) {
	t.Parallel()
	const eperm, enosys, noFamily = refused | uint32(unix.EPERM), refused | uint32(unix.ENOSYS), refused | uint32(unix.EAFNOSUPPORT)
	const newUser, agent = unix.CLONE_NEWUSER, identity.UID
	for name, c := range map[string]struct {
		nr   uint32
		args []uint64
		want uint32
	}{
		"read":                    {unix.SYS_READ, nil, allowed},
		"execve":                  {unix.SYS_EXECVE, nil, allowed},
		"ptrace":                  {unix.SYS_PTRACE, nil, allowed},
		"seccomp":                 {unix.SYS_SECCOMP, nil, allowed},
		"clone3":                  {unix.SYS_CLONE3, nil, allowed},
		"adjtimex":                {unix.SYS_ADJTIMEX, nil, allowed},
		"mount":                   {unix.SYS_MOUNT, nil, eperm},
		"fsopen":                  {unix.SYS_FSOPEN, nil, eperm},
		"finit_module":            {unix.SYS_FINIT_MODULE, nil, eperm},
		"bpf, last of its group":  {unix.SYS_PERF_EVENT_OPEN, nil, eperm},
		"io_uring_setup":          {unix.SYS_IO_URING_SETUP, nil, enosys},
		"keyctl":                  {unix.SYS_KEYCTL, nil, enosys},
		"socket of IPv4":          {unix.SYS_SOCKET, []uint64{unix.AF_INET}, allowed},
		"socket of vsock":         {unix.SYS_SOCKET, []uint64{unix.AF_VSOCK}, noFamily},
		"vsock below high bits":   {unix.SYS_SOCKET, []uint64{1<<32 | unix.AF_VSOCK}, noFamily},
		"socketpair of vsock":     {unix.SYS_SOCKETPAIR, []uint64{unix.AF_VSOCK}, noFamily},
		"clone of a thread":       {unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allowed},
		"clone of a user":         {unix.SYS_CLONE, []uint64{newUser | unix.CLONE_NEWPID}, eperm},
		"clone below high bits":   {unix.SYS_CLONE, []uint64{1<<33 | newUser}, eperm},
		"unshare of a cgroup":     {unix.SYS_UNSHARE, []uint64{unix.CLONE_NEWCGROUP}, allowed},
		"unshare of a user":       {unix.SYS_UNSHARE, []uint64{newUser}, eperm},
		"setuid to root":          {unix.SYS_SETUID, []uint64{0}, allowed},
		"setuid to guestd":        {unix.SYS_SETUID, []uint64{agent}, eperm},
		"real user guestd":        {unix.SYS_SETREUID, []uint64{agent, 0}, eperm},
		"effective user guestd":   {unix.SYS_SETREUID, []uint64{0, agent}, eperm},
		"saved user guestd":       {unix.SYS_SETRESUID, []uint64{0, 0, agent}, eperm},
		"all users others":        {unix.SYS_SETRESUID, []uint64{1, 2, 3}, allowed},
		"a number yet to be used": {9999, nil, allowed},
	} {
		require.Equal(t, c.want, verdict(t, seccomp.Arch, c.nr, c.args...), name)
	}
	for _, arch := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, 0} {
		require.EqualValues(t, uint32(killed), verdict(t, arch, unix.SYS_READ), "architecture %#x", arch)
	}
	if seccomp.ForeignFrom != 0 {
		require.Equal(t, enosys, verdict(t, seccomp.Arch, seccomp.ForeignFrom|unix.SYS_READ))
		require.Equal(t, enosys, verdict(t, seccomp.Arch, 1<<32-1))
	}
	seen := map[uint32]bool{}
	for _, r := range rules() {
		require.False(t, seen[r.Nr], "the first of two rules for call %d hides the second", r.Nr)
		seen[r.Nr] = true
	}
}

// probe is what TestMain does in a child: each call would succeed, or fail with
// another error, in a process without a filter.
const probe = "WAGGLE_TEST_PROBE"

func TestMain(m *testing.M) {
	if os.Getenv(probe) == "" {
		os.Exit(m.Run())
	}
	call := func(name string, nr uintptr, args ...uintptr) {
		var a [3]uintptr
		copy(a[:], args)
		_, _, errno := unix.Syscall(nr, a[0], a[1], a[2])
		fmt.Println(name, unix.ErrnoName(errno))
	}
	call("mount", unix.SYS_MOUNT)
	call("io_uring", unix.SYS_IO_URING_SETUP)
	call("vsock", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM)
	call("unix", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM)
	call("user", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
}

// TestFilterInKernel looks at a command, and at the threads of this process.
func TestFilterInKernel(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for _, root := range []bool{false, true} {
		out := output(t, l, &Command{
			Argv: []string{"/proc/self/exe"}, Env: []string{probe + "=1"}, Dir: "/", User: self(t), Root: root,
		})
		require.Equal(t, "mount EPERM\nio_uring ENOSYS\nvsock EAFNOSUPPORT\nunix \nuser EPERM\n", out)
	}
	filtered := 0
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	require.NoError(t, err)
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err == nil && fields(string(status))["Seccomp"] == "2" {
			filtered++
		}
	}
	require.GreaterOrEqual(t, filtered, 2, "the launcher's threads")
	require.Less(t, filtered, len(tasks), "and no others")
}

// TestEnter holds that both threads enter before they give anything up, and that
// an error keeps commands from starting anywhere else.
func TestEnter(t *testing.T) {
	t.Parallel()
	r := reap.New()
	t.Cleanup(r.Close)
	var seen []string
	l, err := NewLauncher(r, func() error {
		status, err := os.ReadFile("/proc/thread-self/status")
		seen = append(seen, fields(string(status))["Seccomp"])
		return err
	})
	require.NoError(t, err)
	l.Close()
	require.Equal(t, []string{"0", "0"}, seen)
	_, err = NewLauncher(r, func() error { return unix.EPERM })
	require.ErrorIs(t, err, unix.EPERM)
}

// BenchmarkStart is the cost of a command with and without the filter.
func BenchmarkStart(b *testing.B) {
	r := reap.New()
	b.Cleanup(r.Close)
	l, err := NewLauncher(r, nil)
	require.NoError(b, err)
	b.Cleanup(l.Close)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	require.NoError(b, err)
	defer null.Close()
	u, err := FindUser(strconv.Itoa(os.Geteuid()))
	require.NoError(b, err)
	for b.Loop() {
		child, err := l.Start(&Command{
			Argv: []string{"/bin/true"}, Dir: "/", User: u, Stdio: []*os.File{null, null, null},
		})
		require.NoError(b, err)
		<-child.Done()
	}
}

// BenchmarkFilter sets the filter on a thread of its own each time.
func BenchmarkFilter(b *testing.B) {
	for b.Loop() {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with it
			err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
			if err == nil {
				err = seccomp.Restrict(rules())
			}
			done <- err
		}()
		select {
		case err := <-done:
			require.NoError(b, err)
		case <-time.After(10 * time.Second):
			b.Fatal("no answer")
		}
	}
}
