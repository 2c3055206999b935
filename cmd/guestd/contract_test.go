// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/stacklok/waggle/contract"
	"github.com/stacklok/waggle/proto"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// plainEnv makes the test's binary guestd.
	plainEnv = "WAGGLE_TEST_GUESTD"
	// unconfined is its value for a guestd without namespaces of its own.
	unconfined = "unconfined"
	// serveLimit turns a guestd that does not start or end into a failure.
	serveLimit = 30 * time.Second
	// ids is how many users and groups the namespace has.
	ids = 1 << 16
)

// TestMain is guestd in a child of a test.
func TestMain(m *testing.M) {
	switch os.Getenv(plainEnv) {
	case "":
		os.Exit(m.Run())
	case unconfined:
		main()
		os.Exit(0)
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

	host := listenHost(t, filepath.Join(dir, "r"))

	mine, theirs := os.Getpid(), startPlain(t, socket, host.Addr().String())
	for _, ns := range []string{"user", "mnt", "pid", "uts", "cgroup"} {
		require.NotEqual(t, namespace(t, mine, ns), namespace(t, theirs, ns), "%s is of its own", ns)
	}
	ready := answer(t, host, &guestv1.Welcome{Protocol: proto.GuestProtocolMax})
	require.False(t, ready.GetAgent().GetOwnsMachine())
	require.NotEmpty(t, ready.GetAgent().GetVersion())
	require.Len(t, ready.GetBootId(), 16)
	contract.Run(t, contract.Dial(t, contract.Unix(socket)), contract.Here())
}

// TestRefused: a guestd that its host will have nothing to do with ends.
func TestRefused(t *testing.T) {
	dir, err := os.MkdirTemp("", "wg") // short: it holds sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	host := listenHost(t, filepath.Join(dir, "r"))
	ctx, cancel := context.WithTimeout(t.Context(), serveLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-listen", "unix://"+filepath.Join(dir, "s"), "-ready", "unix://"+host.Addr().String())
	cmd.Env = append(os.Environ(), plainEnv+"="+unconfined)
	var log bytes.Buffer
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	answer(t, host, &guestv1.Welcome{Refusal: "not this one"})
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, 1, exit.ExitCode())
	require.Contains(t, log.String(), "not this one")
}

// listenHost listens as a host does for the ready handshake.
func listenHost(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	host, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	require.NoError(t, host.SetDeadline(time.Now().Add(serveLimit)))
	return host
}

// answer is the host's side of the ready handshake.
func answer(t *testing.T, host *net.UnixListener, welcome *guestv1.Welcome) *guestv1.Ready {
	t.Helper()
	conn, err := host.Accept()
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(serveLimit)))
	ready := &guestv1.Ready{}
	in := bufio.NewReader(conn)
	require.NoError(t, protodelim.UnmarshalFrom(in, ready))
	_, err = protodelim.MarshalTo(conn, welcome)
	require.NoError(t, err)
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF, "guestd closes when it has been answered")
	return ready
}

func namespace(t *testing.T, pid int, name string) string {
	t.Helper()
	id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	require.NoError(t, err)
	return id
}

// startPlain runs guestd in namespaces of its own until the test has ended. With
// it the kernel ends what is left in them.
func startPlain(t *testing.T, socket, hosts string) (pid int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-listen", "unix://"+socket, "-ready", "unix://"+hosts) // ended below
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
