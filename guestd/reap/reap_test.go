// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reap_test

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/reap"
)

const initEnv = "WAGGLE_TEST_REAP_INIT"

// TestMain makes this binary the first process of a pid namespace when
// TestFirstProcess asks for it.
func TestMain(m *testing.M) {
	if os.Getenv(initEnv) != "" {
		if err := actAsInit(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func start(r *reap.Reaper, argv ...string) (*reap.Child, error) {
	return r.Start(func() (int, error) {
		return syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: []string{"PATH=/usr/bin:/bin"}})
	})
}

func await(c *reap.Child) error {
	select {
	case <-c.Done():
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("no status of process %d", c.Pid())
	}
}

func TestStatusOfManyShortChildren(t *testing.T) {
	t.Parallel()
	r := reap.New()
	defer r.Close()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			c, err := start(r, "/bin/sh", "-c", fmt.Sprintf("exit %d", i))
			if err != nil {
				t.Error(err)
				return
			}
			if err := await(c); err != nil {
				t.Error(err)
				return
			}
			if c.Status().ExitStatus() != i {
				t.Errorf("child %d: status %#x", i, c.Status())
			}
		})
	}
	wg.Wait()
}

func TestSignal(t *testing.T) {
	t.Parallel()
	r := reap.New()
	defer r.Close()
	c, err := start(r, "/bin/sleep", "60")
	require.NoError(t, err)
	require.NoError(t, c.Signal(unix.SIGTERM))
	require.NoError(t, await(c))
	require.True(t, c.Status().Signaled())
	require.Equal(t, unix.SIGTERM, c.Status().Signal())
	require.ErrorIs(t, c.Signal(unix.SIGTERM), reap.ErrEnded)
}

func TestLeavesOtherChildrenAlone(t *testing.T) {
	t.Parallel()
	r := reap.New()
	defer r.Close()
	other := exec.Command("/bin/sh", "-c", "exit 7")
	require.NoError(t, other.Start())
	for range 20 { // many passes while the other child is a zombie
		c, err := start(r, "/bin/true")
		require.NoError(t, err)
		require.NoError(t, await(c))
	}
	var failed *exec.ExitError
	require.ErrorAs(t, other.Wait(), &failed)
	require.Equal(t, 7, failed.ExitCode())
}

func TestStartFailure(t *testing.T) {
	t.Parallel()
	r := reap.New()
	defer r.Close()
	_, err := start(r, "/nonexistent/program")
	require.ErrorIs(t, err, unix.ENOENT)
}

// TestFirstProcess runs a Reaper as pid 1 of a namespace of its own, where
// orphans become its children.
func TestFirstProcess(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a pid namespace needs root; try: sudo go test ./guestd/reap")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), initEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// actAsInit leaves orphans behind while it starts children of its own, and
// fails when a status is wrong or a zombie stays.
func actAsInit() error {
	r := reap.New()
	for i := range 20 {
		c, err := start(r, "/bin/sh", "-c", fmt.Sprintf("(sh -c 'exit 9' &) ; (true &) ; exit %d", i))
		if err != nil {
			return err
		}
		if err := await(c); err != nil {
			return err
		}
		if got := c.Status().ExitStatus(); got != i {
			return fmt.Errorf("child %d ended with %d", i, got)
		}
	}
	// Nothing tells when the last orphan was buried, so this looks until the
	// kernel knows of no child any more; it takes no status itself.
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.ECHILD {
			return nil
		}
	}
	return fmt.Errorf("children are left")
}
