// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/vm"
)

// runnerEnv names a built testdata/vmm, for a test that runs as another user.
const runnerEnv = "WAGGLE_TEST_KRUN_RUNNER"

var builtRunner = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(runnerEnv); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "wk")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vmm")
	build := exec.Command("go", "build", "-o", path, "./testdata/vmm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build testdata/vmm: %w: %s", err, out)
	}
	return path, os.Chmod(dir, 0o755)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := builtRunner(); err == nil && os.Getenv(runnerEnv) == "" {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// fixture is a machine's surroundings on the host.
type fixture struct {
	dir     string // readable by all
	backend *Backend
	spec    vm.Spec
	socket  string
	ready   chan string
	console *buffer
}

// buffer may be read while the machine writes.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// systemLibrary stands in for libkrun: the jail takes any library.
func systemLibrary(t *testing.T, name string) Library {
	t.Helper()
	l, ok := first(spec.LibraryDirs("amd64"), []string{name})
	if !ok {
		l, ok = first(spec.LibraryDirs("arm64"), []string{name})
	}
	require.True(t, ok, name)
	return l
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	runner, err := builtRunner()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "wk") // short, for sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	f := &fixture{dir: dir, ready: make(chan string, 1), console: &buffer{}, socket: filepath.Join(dir, "g")}
	for name, mode := range map[string]os.FileMode{"guestd": 0o755, "image": 0o444, "scratch": 0o600} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), make([]byte, 4096), mode))
	}
	machineDir := filepath.Join(dir, "m")
	require.NoError(t, os.Mkdir(machineDir, 0o700))
	f.backend = &Backend{
		cfg:  Config{Runner: runner, Guestd: filepath.Join(dir, "guestd"), CacheDir: filepath.Join(dir, "cache")},
		libs: Libraries{Krun: systemLibrary(t, "libm.so.6"), Firmware: systemLibrary(t, "libgcc_s.so.1")},
		kvm:  "/dev/null", log: slog.New(slog.DiscardHandler), launcher: (*Backend).launch,
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.socket})
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	f.spec = vm.Spec{
		ID: "test", Dir: machineDir, CPUs: 2, MemoryMiB: 256, Guest: listener, Console: f.console,
		Disks: []vm.Disk{{Path: filepath.Join(dir, "image"), ReadOnly: true}, {Path: filepath.Join(dir, "scratch")}},
		Ready: func(conn net.Conn) {
			defer conn.Close()
			line := make([]byte, 100)
			n, _ := conn.Read(line)
			f.ready <- string(line[:n])
		},
	}
	return f
}

func (f *fixture) start(t *testing.T) vm.Machine {
	t.Helper()
	m, err := f.backend.Start(t.Context(), f.spec)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		require.NoError(t, m.Stop(ctx))
	})
	select {
	case line := <-f.ready:
		require.Equal(t, "ready\n", line)
	case <-m.Done():
		require.FailNow(t, "machine ended", "%v", m.Err())
	case <-time.After(limit):
		require.FailNow(t, "no ready call")
	}
	return m
}

// ask sends one command and returns the reply.
func (f *fixture) ask(t *testing.T, command string) string {
	t.Helper()
	conn, err := net.Dial("unix", f.socket)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(limit)))
	_, _ = fmt.Fprintln(conn, command) // a stream that is refused may be gone before
	reply, _ := io.ReadAll(conn)       // a VMM that ends answers nothing
	return strings.TrimSpace(string(reply))
}

func awaitDone(t *testing.T, m vm.Machine) error {
	t.Helper()
	select {
	case <-m.Done():
	case <-time.After(limit):
		require.FailNow(t, "machine did not end")
	}
	return m.Err()
}

func TestMachine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.start(t)
	require.NoError(t, m.Err())
	require.Equal(t, "hello", f.ask(t, "echo hello"))
	require.Empty(t, f.ask(t, "console more"))
	require.Eventually(t, func() bool { return f.console.String() == "guest: up\nmore\n" }, limit, time.Millisecond)
	require.Equal(t, "<nil>", f.ask(t, "write scratch"))
	written, err := os.ReadFile(filepath.Join(f.dir, "scratch"))
	require.NoError(t, err)
	require.Equal(t, "scratch", string(written))
	require.ErrorContains(t, m.Resume(), "not supported by libkrun")

	require.NoError(t, m.Stop(t.Context()))
	require.NoError(t, m.Stop(t.Context()), "Stop is idempotent")
	require.ErrorIs(t, m.Err(), vm.ErrStopped)
	require.NoDirExists(t, filepath.Join(f.spec.Dir, "krun"))
	_, err = net.Dial("unix", f.socket)
	require.Error(t, err, "the listener is closed with the machine")
}

func TestEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := f.start(t)
	f.ask(t, "end")
	require.ErrorIs(t, awaitDone(t, m), vm.ErrPoweredOff)
	require.ErrorContains(t, m.Err(), "its console says why")

	f = newFixture(t)
	m = f.start(t)
	f.ask(t, "die Building the microVM failed")
	require.EqualError(t, awaitDone(t, m), "waggle-krun: Building the microVM failed (exit status 1)")
}

// TestStartFailsClean fails each step of Start and looks for what is left.
func TestStartFailsClean(t *testing.T) {
	t.Parallel()
	gone := func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, 0) }
	soon := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 300*time.Millisecond)
	}
	for _, tt := range []struct {
		name   string
		change func(*fixture)
		ctx    func(context.Context) (context.Context, context.CancelFunc)
		want   string
	}{
		{"no CPU", func(f *fixture) { f.spec.CPUs = 0 }, nil, "0 CPUs"},
		{"too many CPUs", func(f *fixture) { f.spec.CPUs = 17 }, nil, "runs 1 to 16"},
		{"no memory", func(f *fixture) { f.spec.MemoryMiB = 0 }, nil, "0 MiB"},
		{"no console", func(f *fixture) { f.spec.Console = nil }, nil, "without Guest"},
		{"disk missing", func(f *fixture) { f.spec.Disks[0].Path = "/none" }, nil, "open disk: stat /none: no such file"},
		{"disk is a directory", func(f *fixture) { f.spec.Disks[1].Path = "/" }, nil, "is a directory"},
		{"scratch is a device", func(f *fixture) { f.spec.Disks[1].Path = "/dev/null" }, nil, "not a regular file"},
		{"disk path not absolute", func(f *fixture) { f.spec.Disks[0].Path = "x" }, nil, "not absolute"},
		{"cache unwritable", func(f *fixture) { f.backend.cfg.CacheDir = f.backend.cfg.Guestd + "/x" }, nil, "not a directory"},
		{"no such runner", func(f *fixture) { f.backend.cfg.Runner = "/none" }, nil, "start waggle-krun: fork/exec /none"},
		{"path too long", func(f *fixture) { f.spec.Dir = filepath.Join(f.dir, strings.Repeat("x", 90)) }, nil, "set WAGGLE_RUN_DIR"},
		{"no library", func(f *fixture) { f.backend.libs.Krun.Path = "/none" }, nil, "waggle-krun: find the libraries of libkrun: read /none"},
		{"no hypervisor", func(f *fixture) { f.backend.kvm = filepath.Join(f.dir, "kvm") }, nil, "no such file or directory"},
		{"refused call", func(f *fixture) { f.spec.MemoryMiB = 1 }, nil,
			"waggle-krun: krun_add_disk2: EINVAL (invalid argument): at"},
		{"foreign runner", func(f *fixture) { f.backend.cfg.Runner = "/bin/true" }, nil,
			"this waggle-krun cannot run machines: /bin/true ended without a word: run `waggle doctor`"},
		{"never ready to enter", func(f *fixture) { f.spec.MemoryMiB = 2 }, soon, "deadline exceeded"},
		{"cancelled before", func(*fixture) {}, gone, "deadline exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			ours, theirs := socketPair(t)
			f.spec.NIC = &vm.NIC{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Conn: theirs}
			tt.change(f)
			ctx := t.Context()
			if tt.ctx != nil {
				var cancel context.CancelFunc
				ctx, cancel = tt.ctx(ctx)
				defer cancel()
			}
			m, err := f.backend.Start(ctx, f.spec)
			require.ErrorContains(t, err, tt.want)
			require.Nil(t, m)
			require.NoDirExists(t, filepath.Join(f.spec.Dir, "krun"))
			require.NoError(t, ours.SetReadDeadline(time.Now().Add(limit)))
			_, err = ours.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF, "the network connection is closed, the VMM's copy too")
			_, err = net.Dial("unix", f.socket)
			require.Error(t, err, "the listener is closed")
		})
	}
}

// TestWhatTheVMMIsTold: the machine as it is described inside.
func TestWhatTheVMMIsTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, theirs := socketPair(t)
	f.spec.NIC = &vm.NIC{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Conn: theirs}
	f.start(t)
	var m spec.Machine
	require.NoError(t, json.Unmarshal([]byte(f.ask(t, "machine")), &m))
	if m.Confine != spec.Namespaces {
		t.Skip("no namespaces here: ", m.Reason)
	}
	require.Equal(t, spec.Machine{
		CPUs: 2, MemoryMiB: 256, MAC: "02:00:00:00:00:01", Dir: "/vsock", Temp: "/tmp",
		Runner: "/waggle-krun", Library: "/lib/libm.so.6", Firmware: "/lib/libgcc_s.so.1", KVM: "/dev/kvm",
		Confine: spec.Namespaces,
		Disks: []spec.Disk{
			{Name: "boot", Path: "/disks/boot", ReadOnly: true},
			{Name: "image", Path: "/disks/image", ReadOnly: true},
			{Name: "scratch", Path: "/disks/scratch"},
		},
	}, m, "no path and no user of the host's")
}
