// SPDX-License-Identifier: Apache-2.0

//go:build linux

package qemu_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/images/kernel/prepare"
)

// bootLimit is far beyond any boot: it only turns a hang into a failure.
const bootLimit = 2 * time.Minute

// fixture is what all real machines of this package share.
var fixture = sync.OnceValues(func() (qemu.Config, error) {
	cache := os.Getenv("WAGGLE_TEST_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return qemu.Config{}, err
		}
		cache = filepath.Join(home, ".cache", "waggle-test")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	kernel, err := prepare.Prepare(ctx, prepare.Options{Out: filepath.Join(cache, "kernel")})
	if err != nil {
		return qemu.Config{}, err
	}
	// Another run of this test may be using the old one.
	guest := filepath.Join(cache, "qemu-test-init")
	fresh := fmt.Sprintf("%s.%d", guest, os.Getpid())
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", fresh, "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		return qemu.Config{}, fmt.Errorf("build test init: %w: %s", err, out)
	}
	if err := os.Rename(fresh, guest); err != nil {
		return qemu.Config{}, err
	}
	return qemu.Config{
		Kernel: kernel.Dir, Guestd: guest, CacheDir: filepath.Join(cache, "initramfs"), Accel: qemu.AccelAuto,
	}, nil
})

func newBackend(tb testing.TB, change func(*qemu.Config)) *qemu.Backend {
	tb.Helper()
	cfg, err := fixture()
	require.NoError(tb, err)
	if change != nil {
		change(&cfg)
	}
	backend, err := qemu.New(cfg)
	require.NoError(tb, err)
	return backend
}

// console is a buffer that may be read while the machine writes.
type console struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

// guest is a machine under test and the channels to it.
type guest struct {
	vm.Machine
	console *console
	ready   chan string
	socket  string
}

func newSpec(tb testing.TB) (vm.Spec, *guest) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "wq") // a socket's path must be short
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	g := &guest{console: &console{}, ready: make(chan string, 1), socket: filepath.Join(dir, "guestd.sock")}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: g.socket})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = listener.Close() })
	return vm.Spec{
		ID: "test", Dir: dir, CPUs: 1, MemoryMiB: 256, Guest: listener, Console: g.console,
		Ready: func(conn net.Conn) {
			defer conn.Close()
			line, _ := io.ReadAll(conn)
			g.ready <- string(line)
		},
	}, g
}

// start starts a machine that is stopped when the test ends.
func start(tb testing.TB, backend *qemu.Backend, change func(*vm.Spec)) *guest {
	tb.Helper()
	spec, g := newSpec(tb)
	if change != nil {
		change(&spec)
	}
	machine, err := backend.Start(tb.Context(), spec)
	require.NoError(tb, err)
	g.Machine = machine
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
		defer cancel()
		require.NoError(tb, g.Stop(ctx))
	})
	return g
}

func (g *guest) awaitReady(tb testing.TB) string {
	tb.Helper()
	select {
	case line := <-g.ready:
		return line
	case <-g.Done():
		require.FailNow(tb, "machine ended before it was ready", "%v\n%s", g.Err(), g.console)
	case <-time.After(bootLimit):
		require.FailNow(tb, "no ready signal", g.console.String())
	}
	return ""
}

func (g *guest) awaitDone(tb testing.TB) error {
	tb.Helper()
	select {
	case <-g.Done():
	case <-time.After(bootLimit):
		require.FailNow(tb, "machine did not end", g.console.String())
	}
	return g.Err()
}

// command sends one line to the guest and returns its reply.
func (g *guest) command(tb testing.TB, line string) string {
	tb.Helper()
	conn, err := net.Dial("unix", g.socket)
	require.NoError(tb, err)
	defer conn.Close()
	require.NoError(tb, conn.SetDeadline(time.Now().Add(bootLimit)))
	_, err = fmt.Fprintln(conn, line)
	require.NoError(tb, err)
	reply, _ := io.ReadAll(conn) // a guest that goes down answers nothing
	return strings.TrimSpace(string(reply))
}

func TestBootDisksAndStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shared, scratch := filepath.Join(dir, "root.img"), filepath.Join(dir, "scratch.img")
	require.NoError(t, os.WriteFile(shared, make([]byte, 1<<20), 0o600))
	require.NoError(t, os.WriteFile(scratch, make([]byte, 2<<20), 0o600))
	ours, theirs := frameSocket(t)

	g := start(t, newBackend(t, nil), func(spec *vm.Spec) {
		spec.Disks = []vm.Disk{{Path: shared, ReadOnly: true}, {Path: scratch}}
		spec.NIC = &vm.NIC{MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, Conn: theirs}
	})
	require.NoError(t, g.Err())
	require.Positive(t, g.PID())
	require.Equal(t, "ready vda=2048 vdb=4096 vda=1 vdb=0 eth0=52:54:00:01:02:03\n", g.awaitReady(t))
	require.Equal(t, "hello", g.command(t, "echo hello"))
	require.Equal(t, "written <nil>", g.command(t, "write scratch"))
	require.Contains(t, g.console.String(), "init: up")
	if os.Geteuid() == 0 {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.PID()))
		require.NoError(t, err)
		require.Contains(t, string(status), "NoNewPrivs:\t1")
		require.NotContains(t, string(status), "Uid:\t0\t")
		require.Contains(t, string(status), "CapEff:\t0000000000000000")
		require.Contains(t, string(status), "Seccomp:\t2")
		require.Contains(t, string(status), "Groups:\t \n")
	}

	require.NoError(t, g.Stop(t.Context()))
	require.NoError(t, g.Stop(t.Context()), "Stop is idempotent")
	require.ErrorIs(t, g.Err(), vm.ErrStopped)
	require.ErrorIs(t, syscall.Kill(g.PID(), 0), syscall.ESRCH)
	_, err := net.Dial("unix", g.socket)
	require.Error(t, err, "the listener is closed with the machine")
	written, err := os.ReadFile(scratch)
	require.NoError(t, err)
	require.Equal(t, "scratch", string(written[:7]))
	// Whatever frames the guest sent, the end shows as EOF.
	require.NoError(t, ours.SetReadDeadline(time.Now().Add(bootLimit)))
	_, err = io.Copy(io.Discard, ours)
	require.NoError(t, err)
}

// frameSocket is a connected pair as host/egress would make it.
func frameSocket(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	defer listener.Close()
	theirs, err = net.DialUnix("unix", nil, listener.Addr().(*net.UnixAddr))
	require.NoError(t, err)
	ours, err = listener.AcceptUnix()
	require.NoError(t, err)
	t.Cleanup(func() { _ = ours.Close() })
	return ours, theirs
}

func TestGuestEndsItself(t *testing.T) {
	t.Parallel()
	backend := newBackend(t, nil)
	tests := []struct {
		command string
		check   func(*testing.T, error)
	}{
		{"poweroff", func(t *testing.T, err error) { require.ErrorIs(t, err, vm.ErrPoweredOff) }},
		{"panic", func(t *testing.T, err error) { require.ErrorContains(t, err, "panicked") }},
	}
	for _, tt := range tests {
		t.Run(tt.command, func(t *testing.T) {
			g := start(t, backend, nil)
			g.awaitReady(t)
			g.command(t, tt.command)
			tt.check(t, g.awaitDone(t))
		})
	}
}

func TestSeveralCPUs(t *testing.T) {
	t.Parallel()
	g := start(t, newBackend(t, nil), func(spec *vm.Spec) { spec.CPUs = 2 })
	g.awaitReady(t)
	require.Contains(t, g.command(t, "cat /sys/devices/system/cpu/online"), "0-1")
}

// A kernel that only root may read still boots, though QEMU does not run as root.
func TestUnreadableKernel(t *testing.T) {
	t.Parallel()
	cfg, err := fixture()
	require.NoError(t, err)
	dir := t.TempDir()
	kernel, err := os.ReadFile(filepath.Join(cfg.Kernel, "vmlinux"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "vmlinux"), kernel, 0o600))
	require.NoError(t, os.Symlink(filepath.Join(cfg.Kernel, "modules"), filepath.Join(dir, "modules")))
	g := start(t, newBackend(t, func(c *qemu.Config) { c.Kernel = dir }), nil)
	g.awaitReady(t)
}

// BenchmarkBoot measures from the call of Start, QEMU's exec within, to the
// guest's dial of the ready port.
func BenchmarkBoot(b *testing.B) {
	backend := newBackend(b, nil)
	for b.Loop() {
		g := start(b, backend, func(spec *vm.Spec) { spec.MemoryMiB = 512 })
		g.awaitReady(b)
		b.StopTimer()
		require.NoError(b, g.Stop(context.Background()))
		b.StartTimer()
	}
}
