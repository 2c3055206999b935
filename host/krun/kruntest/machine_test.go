// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// signal is what ended the driver, or 0.
func (r *played) signal() unix.Signal {
	return r.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

// configuration are the calls of a whole machine, without the last.
func configuration(dir string) []string {
	return []string{
		"krun_init_log 2 2 2 1",
		"krun_create_ctx",
		"krun_set_vm_config 0 1 256",
		"krun_disable_implicit_vsock 0",
		"krun_add_vsock 0 0",
		"krun_add_vsock_port2 0 1024 s:" + dir + "/guestd.sock 1",
		"krun_add_vsock_port2 0 1025 s:" + dir + "/ready.sock 0",
		"krun_add_disk2 0 s:boot s:" + dir + "/boot 0 1",
		"krun_set_root_disk_remount 0 s:/dev/vda s:ext4 s:ro",
		"krun_set_exec 0 s:/lib/waggle/guestd w: w:KRUN_INIT_PID1=1",
		"krun_set_console_output 0 s:" + dir + "/console",
	}
}

// bootDisk is as much of an ext4 as the double looks at.
func bootDisk(t *testing.T, path string) {
	t.Helper()
	disk := make([]byte, 4096)
	copy(disk[1024+56:], "\x53\xef")
	require.NoError(t, os.WriteFile(path, disk, 0o400))
}

// boot starts a machine, and returns when it listens for the host.
func boot(t *testing.T, p *player) *played {
	t.Helper()
	bootDisk(t, filepath.Join(p.dir, "boot"))
	run := p.start(t, append(configuration(p.dir), "krun_start_enter 0")...)
	await(t, run, func() bool {
		_, err := os.Stat(filepath.Join(p.dir, "guestd.sock"))
		return err == nil
	})
	return run
}

// await looks again until it is so.
func await(t *testing.T, run *played, is func() bool) {
	t.Helper()
	deadline := time.After(playLimit)
	for !is() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-run.done:
			require.FailNow(t, "the machine has ended", "%s", run.said())
		case <-deadline:
			require.FailNow(t, "it does not happen", "%s", &run.stderr)
		}
	}
}

// bootReady starts a machine and returns when its guest has said that it is ready.
// Before that, a stream to it may be refused, or end after a while.
func bootReady(t *testing.T, p *player) *played {
	t.Helper()
	ready, err := net.Listen("unix", filepath.Join(p.dir, "ready.sock"))
	require.NoError(t, err)
	defer ready.Close()
	run := boot(t, p)
	require.NoError(t, ready.(*net.UnixListener).SetDeadline(time.Now().Add(playLimit)))
	go func() {
		<-run.done
		_ = ready.Close() // nobody will dial any more
	}()
	conn, err := ready.Accept()
	require.NoError(t, err, "%s", &run.stderr)
	greet(t, conn)
	return run
}

// TestMachine starts guestd, which says that it is ready, runs a command and ends
// with its machine.
func TestMachine(t *testing.T) {
	t.Parallel()
	p := newPlayer(t, Options{})
	run := bootReady(t, p)
	require.Contains(t, serveOne(t, p), "hello")

	record := p.record(t)
	require.Len(t, Named(record, "surroundings"), 1)
	opened := Named(record, "open disk")
	require.Len(t, opened, 2, "each disk is opened twice")
	require.Equal(t, true, opened[0].Args["ro"])
	entered := Named(record, "krun_start_enter")
	require.Len(t, entered, 1)
	require.Nil(t, entered[0].Result, "it does not return")

	guestd := children(t, run.cmd.Process.Pid)
	require.Len(t, guestd, 1)
	require.NoError(t, run.cmd.Process.Signal(unix.SIGKILL))
	run.wait(t)
	await(t, &played{done: make(chan struct{})}, func() bool { return gone(guestd[0]) })
}

// greet is the host's side of the handshake.
func greet(t *testing.T, conn net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), playLimit)
	defer cancel()
	// Without its half-close, which libkrun takes for the end.
	peer, err := guest.Welcome(ctx, struct{ net.Conn }{lingering{conn}})
	require.NoError(t, err)
	require.False(t, peer.Ready.GetAgent().GetOwnsMachine())
}

// lingering closes when the guest has: libkrun drops what it has not read.
type lingering struct{ net.Conn }

func (l lingering) Close() error {
	_ = l.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.Copy(io.Discard, l.Conn)
	return l.Conn.Close()
}

func (p *player) client() *guest.Client {
	return guest.New(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.dir, "guestd.sock"))
	})
}

// serveOne runs one command of the guest and returns what it said.
func serveOne(t *testing.T, p *player) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), playLimit)
	defer cancel()
	client := p.client()
	defer client.Close()
	var stdout bytes.Buffer
	exited, err := client.Run(ctx, guest.Exec{
		Start: &guestv1.Start{
			ExecId: "one", Cwd: "/", Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{Program, "say", "hello"}}},
		},
		Stdout: &stdout,
	})
	require.NoError(t, err)
	require.Equal(t, int32(0), exited.GetExitCode(), "%v", exited)
	return stdout.String()
}

// children are the processes that one has.
func children(t *testing.T, pid int) []string {
	t.Helper()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	require.NoError(t, err)
	return strings.Fields(string(list))
}

func gone(pid string) bool {
	_, err := os.Stat("/proc/" + pid)
	return errors.Is(err, os.ErrNotExist)
}

// TestSilentMachine serves and does not say so.
func TestSilentMachine(t *testing.T) {
	t.Parallel()
	p := newPlayer(t, Options{Orders: []string{"ready=no"}})
	ready, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(p.dir, "ready.sock")})
	require.NoError(t, err)
	defer ready.Close()
	run := boot(t, p)
	await(t, run, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), playLimit)
		defer cancel()
		client := p.client()
		defer client.Close()
		_, err := client.Info(ctx)
		return err == nil
	})
	require.Contains(t, serveOne(t, p), "hello")
	require.NoError(t, ready.SetDeadline(time.Now()))
	_, err = ready.Accept()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// TestEnd is what comes of a machine that ends by itself.
func TestEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options Options
		noDisk  bool
		code    int
		console string
		result  string // of krun_start_enter, where it returns
	}{
		"at once":      {options: Options{Orders: []string{"exit=0"}}, console: "booting"},
		"with a code":  {options: Options{Orders: []string{"exit=3"}}, code: 3, console: "booting"},
		"in a panic":   {options: Options{Orders: []string{"boot=panic"}}, console: "kernel panic"},
		"no firmware":  {options: Options{WithoutFirmware: true}, result: noEnt},
		"not firmware": {options: Options{WrongFirmware: true}, result: noEnt},
		"no disk":      {noDisk: true, result: invalid},
		"told to fail": {options: Options{Orders: []string{"fail=krun_start_enter:13"}}, result: errno(unix.EACCES)},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := newPlayer(t, c.options)
			if !c.noDisk {
				bootDisk(t, filepath.Join(p.dir, "boot"))
			}
			calls := append(configuration(p.dir), "krun_start_enter 0")
			results, run := p.play(t, calls...)
			require.Equal(t, c.code, run.cmd.ProcessState.ExitCode(), "%s", &run.stderr)
			if c.result != "" {
				require.Equal(t, c.result, results[len(results)-1])
				require.Len(t, results, len(calls))
				return
			}
			console, err := os.ReadFile(filepath.Join(p.dir, "console"))
			require.NoError(t, err)
			require.Contains(t, string(console), c.console)
			left, err := filepath.Glob(filepath.Join(p.dir, "krun-empty-root-*"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// TestHalfClose is where libkrun differs from a socket: the guest's side is cut, and
// the host hears nothing any more, not even an end.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	p := newPlayer(t, Options{})
	bootReady(t, p)
	conn, err := net.Dial("unix", filepath.Join(p.dir, "guestd.sock"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HT")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.UnixConn).CloseWrite())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Contains(t, serveOne(t, p), "hello", "others go on")
}

// TestLate reads late from a host that waits for the guest to close first.
func TestLate(t *testing.T) {
	t.Parallel()
	p := newPlayer(t, Options{Orders: []string{"late=500"}})
	run := bootReady(t, p)
	await(t, run, func() bool {
		console, err := os.ReadFile(filepath.Join(p.dir, "console"))
		return err == nil && strings.Contains(string(console), "msg=ready")
	})
}
