// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroup_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/cgroup"
)

// mount returns a directory of its own in a private mount of cgroup v2, which
// no mount namespace shows. Needs root and a kernel with cgroup v2.
func mount(t *testing.T) string {
	t.Helper()
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Skipf("cgroup v2 cannot be mounted (%v); run as root, or rely on the tests in a VM", err)
	}
	defer unix.Close(fs)
	require.NoError(t, unix.FsconfigCreate(fs))
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	require.NoError(t, err)
	dir := os.NewFile(uintptr(mnt), "cgroup2")
	root := fmt.Sprintf("/proc/self/fd/%d/waggle-test-%d-%d", mnt, os.Getpid(), time.Now().UnixNano())
	t.Cleanup(func() {
		if t.Failed() {
			_ = os.WriteFile(root+"/cgroup.kill", []byte("1"), 0)
		}
		require.NoError(t, os.Remove(root))
		require.NoError(t, dir.Close())
	})
	return root
}

func open(t *testing.T) *cgroup.Tree {
	t.Helper()
	tree, err := cgroup.Open(mount(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tree.Close()) })
	return tree
}

// run starts a shell script in the group and returns when it has printed a line.
func run(t *testing.T, g *cgroup.Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if g != nil {
		dir, err := g.Dir()
		require.NoError(t, err)
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = int(dir.Fd())
	}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return cmd
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// daemons leaves 20 processes behind that have left session and parent.
const daemons = `for i in $(seq 20); do setsid sh -c 'setsid sleep 300 >/dev/null 2>&1 &' ; done; echo ready; sleep 300`

func TestKillEndsDaemons(t *testing.T) {
	t.Parallel()
	tree := open(t)
	g, err := tree.Create("0-daemons")
	require.NoError(t, err)
	cmd := run(t, g, daemons)
	pids, err := g.Pids()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(pids), 21)
	n, err := tree.Count()
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.ErrorIs(t, g.Remove(), unix.EBUSY)

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, g.WaitEmpty(short), context.DeadlineExceeded)

	require.NoError(t, g.Kill())
	require.Error(t, cmd.Wait())
	require.NoError(t, g.WaitEmpty(within(t)))
	pids, err = g.Pids()
	require.NoError(t, err)
	require.Empty(t, pids)
	require.Positive(t, g.Stats().CPU)
	require.NoError(t, g.Remove())
}

func TestSignalReachesAll(t *testing.T) {
	t.Parallel()
	g, err := open(t).Create("0-signal")
	require.NoError(t, err)
	cmd := run(t, g, `trap 'exit 5' TERM
		setsid sh -c 'trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done' & wait`)
	require.NoError(t, g.Signal(unix.SIGTERM))
	require.NoError(t, g.WaitEmpty(within(t)))
	require.ErrorContains(t, cmd.Wait(), "exit status 5")
	require.NoError(t, g.Signal(unix.SIGTERM)) // an empty group is no error
	require.NoError(t, g.Remove())
}

func TestRemoveTakesNestedGroups(t *testing.T) {
	t.Parallel()
	root := mount(t)
	tree, err := cgroup.Open(root)
	require.NoError(t, err)
	defer tree.Close()
	g, err := tree.Create("0-nested")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(root+"/0-nested/a/b", 0o755))
	require.NoError(t, g.Remove())
	require.NoError(t, g.WaitEmpty(within(t)), "a group that is gone is empty")
}

func TestCreateRejectsNames(t *testing.T) {
	t.Parallel()
	tree := open(t)
	for _, name := range []string{"", ".", "..", "a/b", "../x"} {
		_, err := tree.Create(name)
		require.Error(t, err, name)
	}
}

func TestOpenWithoutCgroups(t *testing.T) {
	t.Parallel()
	_, err := cgroup.Open(t.TempDir() + "/waggle/exec")
	require.ErrorIs(t, err, cgroup.ErrUnavailable)
}

func TestSession(t *testing.T) {
	t.Parallel()
	// Double forks and process groups of their own stay in the session.
	cmd := run(t, nil, `for i in $(seq 20); do sh -c 'sleep 300 >/dev/null 2>&1 &' ; done; echo ready; wait; sleep 300`)
	s := cgroup.NewSession(cmd.Process.Pid)
	pids, err := s.Pids()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(pids), 21)
	require.NoError(t, s.Kill())
	require.Error(t, cmd.Wait())
	require.NoError(t, s.WaitEmpty(within(t)))
	pids, err = s.Pids()
	require.NoError(t, err)
	require.Empty(t, pids)
	require.NoError(t, s.Kill())
}
