// SPDX-License-Identifier: Apache-2.0

package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/admin"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// role makes this test's binary a server of the run directory in its argument.
const role = "WAGGLE_TEST_ROLE"

const testURL = "http://127.0.0.1:1/mcp"

var discard = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	if os.Getenv(role) == "" {
		os.Exit(m.Run())
	}
	lock, err := admin.Acquire(context.Background(), os.Args[1])
	if err == nil {
		_, err = lock.Serve(answer, nil, discard)
	}
	fmt.Println(err)
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or its test is
	os.Exit(0)
}

func answer(context.Context) *hostv1.AdminStatusResponse {
	return &hostv1.AdminStatusResponse{McpUrl: testURL, Ready: true}
}

// shortDir is a directory in which sockets fit.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wa")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// another is a server in a process of its own.
func another(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, dir)
	cmd.Env = append(os.Environ(), role+"=serve")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = in.Close() })
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "<nil>\n", line)
	return cmd
}

// TestSecondServer is refused with words that name the first, and takes over at
// once when that one was killed, its socket included.
func TestSecondServer(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	first := another(t, dir)
	_, err := admin.Acquire(t.Context(), dir)
	var held *admin.HeldError
	require.ErrorAs(t, err, &held)
	require.Equal(t, admin.HeldError{RunDir: dir, PID: first.Process.Pid, URL: testURL}, *held)
	require.ErrorContains(t, err, "WAGGLE_RUN_DIR")

	require.NoError(t, first.Process.Signal(syscall.SIGKILL))
	require.Error(t, first.Wait())
	require.FileExists(t, filepath.Join(dir, "waggle.sock"), "a killed server leaves its socket")
	_, err = admin.Status(t.Context(), dir)
	require.ErrorIs(t, err, admin.ErrNoServer)

	lock, err := admin.Acquire(t.Context(), dir)
	require.NoError(t, err)
	server, err := lock.Serve(answer, nil, discard)
	require.NoError(t, err)
	status, err := admin.Status(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, int32(os.Getpid()), status.GetPid())
	require.Equal(t, uint32(1), status.GetApiVersion())
	require.Equal(t, testURL, status.GetMcpUrl())
	server.Close(time.Second)
	require.NoError(t, lock.Close())
	require.NoFileExists(t, filepath.Join(dir, "waggle.sock"))
	another(t, dir)
}

// TestServerHangs: a server that does not answer is named and not waited for.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	first := another(t, dir)
	require.NoError(t, first.Process.Signal(syscall.SIGSTOP))
	var stopped syscall.WaitStatus
	_, err := syscall.Wait4(first.Process.Pid, &stopped, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, stopped.Stopped())
	t.Cleanup(func() { _ = first.Process.Signal(syscall.SIGCONT) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = admin.Status(ctx, dir)
	require.ErrorContains(t, err, fmt.Sprintf("does not answer (pid %d)", first.Process.Pid))
	_, err = admin.Acquire(t.Context(), dir)
	var held *admin.HeldError
	require.ErrorAs(t, err, &held)
	require.Equal(t, admin.HeldError{RunDir: dir, PID: first.Process.Pid}, *held)
}

// TestLockFileDeleted: the socket still tells the second server of the first.
func TestLockFileDeleted(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	lock, err := admin.Acquire(t.Context(), dir)
	require.NoError(t, err)
	defer lock.Close()
	server, err := lock.Serve(answer, nil, discard)
	require.NoError(t, err)
	defer server.Close(time.Second)
	require.NoError(t, lock.Check())
	require.NoError(t, os.Remove(filepath.Join(dir, "waggle.lock")))
	require.ErrorIs(t, lock.Check(), admin.ErrVanished)

	second, err := admin.Acquire(t.Context(), dir)
	require.NoError(t, err)
	defer second.Close()
	require.ErrorIs(t, lock.Check(), admin.ErrVanished, "the file is another one")
	_, err = second.Serve(answer, nil, discard)
	require.ErrorContains(t, err, "another server answers")
	_, err = admin.Status(t.Context(), dir)
	require.NoError(t, err, "the first server keeps its socket")
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	_, err := admin.Status(t.Context(), dir)
	require.ErrorIs(t, err, admin.ErrNoServer)
	_, err = admin.Status(t.Context(), filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, admin.ErrNoServer)
	// A socket that nobody serves any more.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "waggle.sock"), Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	_, err = admin.Status(t.Context(), dir)
	require.ErrorIs(t, err, admin.ErrNoServer)

	long := filepath.Join(dir, strings.Repeat("x", 100))
	require.NoError(t, os.Mkdir(long, 0o700))
	lock, err := admin.Acquire(t.Context(), long)
	require.NoError(t, err)
	defer lock.Close()
	_, err = lock.Serve(answer, nil, discard)
	require.ErrorContains(t, err, "bytes shorter")
	_, err = admin.Status(t.Context(), long)
	require.ErrorContains(t, err, "bytes shorter")
}
