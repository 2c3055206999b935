// SPDX-License-Identifier: Apache-2.0

//go:build linux

package qemu_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/host/vm"
)

// holdEnv makes this test binary a process that starts a machine and holds it.
const holdEnv = "WAGGLE_TEST_HOLD_MACHINE"

func TestMain(m *testing.M) {
	if os.Getenv(holdEnv) != "" {
		if err := hold(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// hold starts a machine, prints QEMU's pid and waits for its end.
func hold() error {
	cfg, err := fixture()
	if err != nil {
		return err
	}
	backend, err := qemu.New(cfg)
	if err != nil {
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: os.Getenv(holdEnv)})
	if err != nil {
		return err
	}
	machine, err := backend.Start(context.Background(), vm.Spec{
		ID: "held", CPUs: 1, MemoryMiB: 256, Guest: listener, Console: io.Discard,
		Ready: func(conn net.Conn) { _ = conn.Close() },
	})
	if err != nil {
		return err
	}
	fmt.Println(machine.PID())
	<-machine.Done()
	return machine.Err()
}

func TestDiesWithItsParent(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+filepath.Join(dir, "s"))
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var pid int
	_, err = fmt.Fscan(stdout, &pid)
	require.NoError(t, err)
	vmm, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(vmm)

	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	// The promise is a second.
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(vmm), Events: unix.POLLIN}}, 1000)
	require.NoError(t, err)
	require.Equal(t, 1, n, "qemu outlived its parent")
}

func TestNewErrors(t *testing.T) {
	cfg, err := fixture()
	require.NoError(t, err)
	empty := t.TempDir()
	tests := []struct {
		name   string
		change func(*qemu.Config)
		is     error
		want   string
	}{
		{"no binary", func(c *qemu.Config) { c.Binary = "qemu-not-there" }, qemu.ErrBadBinary, "unset it to take qemu-system-"},
		{"no kernel given", func(c *qemu.Config) { c.Kernel = "" }, qemu.ErrNoKernel, "WAGGLE_KERNEL"},
		{"kernel missing", func(c *qemu.Config) { c.Kernel = "/none" }, qemu.ErrNoKernel, "task kernel"},
		{"directory without kernel", func(c *qemu.Config) { c.Kernel = empty }, qemu.ErrNoKernel, "has no vmlinux"},
		{"no kernel at all", func(c *qemu.Config) { c.Kernel = "/etc/hostname" }, qemu.ErrNotKernel, "task kernel"},
		{"no guestd", func(c *qemu.Config) { c.Guestd = "/none" }, qemu.ErrNoGuestd, "WAGGLE_GUESTD_DIR"},
		{"no cache", func(c *qemu.Config) { c.CacheDir = "" }, nil, "cache directory"},
		{"unknown accelerator", func(c *qemu.Config) { c.Accel = "fast" }, nil, "auto, kvm or tcg"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := cfg
			tt.change(&cfg)
			_, err := qemu.New(cfg)
			require.ErrorContains(t, err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
		})
	}
}

// TestStartFailsClean fails each step of Start and looks for what is left. It
// counts descriptors, so it must not run beside other tests.
func TestStartFailsClean(t *testing.T) {
	dir, err := os.MkdirTemp("", "wq") // readable by QEMU's uid, unlike t.TempDir
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	script := func(name, text string) func(*qemu.Config) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
		return func(c *qemu.Config) { c.Binary = path }
	}
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, make([]byte, 4096), 0o600))
	disk := func(path string) func(*vm.Spec) {
		return func(s *vm.Spec) { s.Disks = []vm.Disk{{Path: path}} }
	}
	tests := []struct {
		name   string
		config func(*qemu.Config)
		spec   func(*vm.Spec)
		cancel func(context.Context) (context.Context, context.CancelFunc)
		want   string
	}{
		{name: "no CPU", spec: func(s *vm.Spec) { s.CPUs = 0 }, want: "0 CPUs"},
		{name: "no memory", spec: func(s *vm.Spec) { s.MemoryMiB = 0 }, want: "0 MiB"},
		{name: "no console", spec: func(s *vm.Spec) { s.Console = nil }, want: "without Guest"},
		{name: "disk missing", spec: disk("/none"), want: "open disk: open /none: no such file"},
		{name: "disk is a directory", spec: disk(dir), want: "is a directory"},
		{name: "disk path not absolute", spec: disk("x"), want: "not absolute"},
		{name: "disk is a device file", spec: disk("/dev/null"), want: "neither a file nor a block device"},
		{name: "cache unwritable", config: func(c *qemu.Config) { c.CacheDir = file + "/sub" }, want: "not a directory"},
		{name: "not a program", config: script("text", "no program"), want: "start qemu"},
		{name: "qemu refuses an option", config: script("bad", "#!/bin/sh\necho qemu-system-x: -foo: invalid option >&2\nexit 1\n"),
			want: "qemu: -foo: invalid option (exit status 1)"},
		{name: "qemu ends without a word", config: script("mute", "#!/bin/sh\nexit 3\n"), want: "qemu: exit status 3"},
		{name: "qemu never comes up", config: script("hang", "#!/bin/sh\nexec sleep 1000\n"), want: "deadline exceeded",
			cancel: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 300*time.Millisecond)
			}},
		{name: "cancelled before", want: "nobody waits",
			cancel: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				cancel(errors.New("nobody waits"))
				return ctx, func() {}
			}},
		{name: "more memory than qemu can map", spec: func(s *vm.Spec) { s.MemoryMiB = 1 << 40 }, want: "qemu: "},
	}
	// What the first machine opens for good is no leak.
	require.NoError(t, start(t, newBackend(t, nil), nil).Stop(t.Context()))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			backend := newBackend(t, tt.config)
			before := leaks(t)
			ours, theirs := frameSocket(t)
			spec, g := newSpec(t)
			spec.NIC = &vm.NIC{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Conn: theirs}
			if tt.spec != nil {
				tt.spec(&spec)
			}
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if tt.cancel != nil {
				ctx, cancel = tt.cancel(ctx)
			}
			defer cancel()
			machine, err := backend.Start(ctx, spec)
			require.ErrorContains(t, err, tt.want)
			require.Nil(t, machine)
			_, err = ours.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF, "the network connection is closed")
			_, err = net.Dial("unix", g.socket)
			require.Error(t, err, "the listener is closed")
			require.NoError(t, ours.Close())
			require.Eventually(t, func() bool { return !leaks(t).beyond(before) }, 5*time.Second, 10*time.Millisecond,
				"left behind: had %+v, have %+v", before, leaks(t))
		})
	}
}

// held is what a process has: descriptors, children, and goroutines that run our
// code.
type held struct{ fds, children, goroutines int }

// beyond says whether there is more of anything. Less is no leak: what an earlier
// machine had may still be on its way out at the first count.
func (h held) beyond(before held) bool {
	return h.fds > before.fds || h.children > before.children || h.goroutines > before.goroutines
}

func leaks(t *testing.T) held {
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	children, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	var pids []string
	for _, path := range children {
		data, _ := os.ReadFile(path) // the thread may have ended
		pids = append(pids, strings.Fields(string(data))...)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	ours := 0
	for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if bytes.Contains(stack, []byte("waggle/host/qemu.")) || bytes.Contains(stack, []byte("waggle/host/vhostvsock.")) {
			ours++
		}
	}
	return held{len(fds), len(pids), ours}
}

func TestScratchDiskHasOneUser(t *testing.T) {
	t.Parallel()
	scratch := filepath.Join(t.TempDir(), "scratch.img")
	require.NoError(t, os.WriteFile(scratch, make([]byte, 1<<20), 0o600))
	change := func(s *vm.Spec) { s.Disks = []vm.Disk{{Path: scratch}} }
	backend := newBackend(t, nil)
	start(t, backend, change)
	spec, _ := newSpec(t)
	change(&spec)
	_, err := backend.Start(t.Context(), spec)
	require.ErrorContains(t, err, "lock")
}

// A machine whose QEMU is killed by someone else says so, and keeps nothing.
func TestKilledFromOutside(t *testing.T) {
	t.Parallel()
	g := start(t, newBackend(t, nil), nil)
	process, err := os.FindProcess(g.PID())
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	require.ErrorContains(t, g.awaitDone(t), "killed from outside")
}
