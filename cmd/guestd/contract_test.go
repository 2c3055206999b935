// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/contract"
)

const (
	// plainEnv makes the test's binary guestd.
	plainEnv = "WAGGLE_TEST_GUESTD"
	// serveLimit turns a guestd that does not start or end into a failure.
	serveLimit = 30 * time.Second
	// ids is how many users and groups the namespace has.
	ids = 1 << 16
)

// TestMain is guestd in a child of TestContract.
func TestMain(m *testing.M) {
	if os.Getenv(plainEnv) == "" {
		os.Exit(m.Run())
	}
	// The processes of this namespace, in place of the machine's.
	err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil {
		fmt.Fprintln(os.Stderr, "mount /proc:", err)
		os.Exit(1)
	}
	main()
	os.Exit(0)
}

// TestContract serves as the plain process that a container's guestd is: the first
// one of its namespaces, with a Unix socket.
func TestContract(t *testing.T) {
	untouched := contract.Untouched(t)
	t.Cleanup(untouched)
	dir, err := os.MkdirTemp("", "wg") // short: it holds a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	socket := filepath.Join(dir, "s")

	mine, theirs := os.Getpid(), startPlain(t, socket)
	for _, ns := range []string{"user", "mnt", "pid", "uts", "cgroup"} {
		require.NotEqual(t, namespace(t, mine, ns), namespace(t, theirs, ns), "%s is of its own", ns)
	}
	contract.Run(t, contract.Dial(t, contract.Unix(socket)), contract.Here())
}

func namespace(t *testing.T, pid int, name string) string {
	t.Helper()
	id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	require.NoError(t, err)
	return id
}

// startPlain runs guestd in namespaces of its own until the test has ended. With
// it the kernel ends what is left in them.
func startPlain(t *testing.T, socket string) (pid int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-listen", "unix://"+socket) // ended below
	cmd.Env = append(os.Environ(), plainEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
		// Mounts would else come back to the machine.
		Unshareflags: unix.CLONE_NEWNS,
		UidMappings:  mapping(os.Getuid()), GidMappings: mapping(os.Getgid()),
		GidMappingsEnableSetgroups: os.Getuid() == 0,
		Pdeathsig:                  unix.SIGKILL,
	}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN} // to mount /proc
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	err := cmd.Start()
	if os.Getuid() != 0 && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES)) {
		t.Skipf("this machine lets a user have no user namespace (%v): run as root", err)
	}
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case err = <-ended:
		case <-time.After(serveLimit):
			_ = cmd.Process.Kill()
			err = errors.Join(errors.New("it does not end on SIGTERM"), <-ended)
		}
		require.NoError(t, err, "%s", &log)
	})
	deadline := time.After(serveLimit)
	for {
		conn, err := contract.Unix(socket)(context.Background())
		if err == nil {
			require.NoError(t, conn.Close())
			return cmd.Process.Pid
		}
		select {
		case err := <-ended:
			ended <- err
			require.FailNow(t, "guestd has ended", "%v: %s", err, &log)
		case <-deadline:
			require.FailNow(t, "guestd does not listen", "%v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// mapping keeps the ids as they are: all that root has, or the caller's only.
func mapping(id int) []syscall.SysProcIDMap {
	if id == 0 {
		return []syscall.SysProcIDMap{{Size: ids}}
	}
	return []syscall.SysProcIDMap{{ContainerID: id, HostID: id, Size: 1}}
}
