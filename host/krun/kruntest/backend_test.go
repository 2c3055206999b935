// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/krun"
	"github.com/stacklok/waggle/host/krun/kruntest"
	"github.com/stacklok/waggle/host/vm"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// machineLimit turns a machine that hangs into a failure.
const machineLimit = 2 * time.Minute

// runner is waggle-krun of this tree, and the directory that TestMain removes.
var (
	runnerDir string
	runner    = sync.OnceValues(func() (string, error) {
		var err error
		if runnerDir, err = os.MkdirTemp("", "wk"); err != nil {
			return "", err
		}
		// A VMM has a user of its own, who runs this.
		if err := os.Chmod(runnerDir, 0o755); err != nil {
			return "", err
		}
		path := filepath.Join(runnerDir, "waggle-krun")
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "github.com/stacklok/waggle/cmd/waggle-krun") //nolint:noctx // it is for all tests; go's own time-out ends one that hangs
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build waggle-krun: %w: %s", err, out)
		}
		return path, nil
	})
)

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) != "" {
		os.Exit(own())
	}
	code := m.Run()
	if runnerDir != "" {
		_ = os.RemoveAll(runnerDir)
	}
	os.Exit(code)
}

// place is where a test's machine lives.
type place struct {
	dir           string
	libs          string
	kvm           string
	image, writes string // disks
}

func newPlace(t *testing.T, o kruntest.Options) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "wk") // short: it holds sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	p := &place{
		dir: dir, libs: kruntest.Install(t, o), kvm: filepath.Join(dir, "kvm"),
		image: filepath.Join(dir, "image"), writes: filepath.Join(dir, "scratch"),
	}
	for path, mode := range map[string]os.FileMode{p.kvm: 0o666, p.image: 0o444, p.writes: 0o600, filepath.Join(dir, "guestd"): 0o755} {
		require.NoError(t, os.WriteFile(path, make([]byte, 4096), mode))
		require.NoError(t, os.Chmod(path, mode))
	}
	return p
}

func (p *place) config(t testing.TB) krun.Config {
	t.Helper()
	path, err := runner()
	require.NoError(t, err)
	return krun.Config{
		Runner: path, LibDir: p.libs, Guestd: filepath.Join(p.dir, "guestd"), CacheDir: filepath.Join(p.dir, "cache"), KVM: p.kvm,
	}
}

// box collects a console.
type box struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *box) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *box) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// started is a machine, and what its test hears of it.
type started struct {
	vm.Machine
	*place
	console *box
	ready   chan net.Conn
	client  *guest.Client
}

// spec is a machine with two disks and no network.
func (p *place) spec(t testing.TB) (vm.Spec, *started) {
	t.Helper()
	s := &started{place: p, console: &box{}, ready: make(chan net.Conn, 4)}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(p.dir, "guest.sock"), Net: "unix"})
	require.NoError(t, err)
	s.client = p.client()
	return vm.Spec{
		ID: "env-test", Dir: p.dir, CPUs: 2, MemoryMiB: 256, Guest: listener, Console: s.console,
		Disks: []vm.Disk{{Path: p.image, ReadOnly: true}, {Path: p.writes}},
		Ready: func(c net.Conn) { s.ready <- c },
	}, s
}

func (p *place) client() *guest.Client {
	return guest.New(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.dir, "guest.sock"))
	})
}

// start starts a machine that ends with the test at the latest.
func (p *place) start(t *testing.T, change func(*vm.Spec)) (*started, error) {
	t.Helper()
	b, err := krun.New(p.config(t))
	require.NoError(t, err)
	spec, s := p.spec(t)
	if change != nil {
		change(&spec)
	}
	ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
	defer cancel()
	m, err := b.Start(ctx, spec)
	if err != nil {
		require.Nil(t, m)
		return nil, err
	}
	s.Machine = m
	t.Cleanup(func() {
		_ = s.client.Close()
		stopCtx, cancel := context.WithTimeout(context.Background(), machineLimit)
		defer cancel()
		require.NoError(t, m.Stop(stopCtx))
	})
	return s, nil
}

// welcome is the host's side of the ready handshake.
func (s *started) welcome(t *testing.T) *guest.Peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
	defer cancel()
	select {
	case conn := <-s.ready:
		peer, err := guest.Welcome(ctx, conn)
		require.NoError(t, err)
		return peer
	case <-s.Done():
		require.FailNow(t, "the machine has ended", "%v: %s", s.Err(), s.console)
	case <-ctx.Done():
		require.FailNow(t, "the guest is not ready", "%s", s.console)
	}
	return nil
}

// run runs the guest's one program.
func (s *started) run(t *testing.T, args ...string) (stdout string, exited *guestv1.Exited) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
	defer cancel()
	var out bytes.Buffer
	exited, err := s.client.Run(ctx, guest.Exec{
		Start: &guestv1.Start{
			ExecId: "run-" + rand.Text(), Cwd: "/", OutputPolicy: guestv1.OutputPolicy_OUTPUT_POLICY_WAIT,
			Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: append([]string{kruntest.Program}, args...)}},
		},
		Stdout: &out,
	})
	require.NoError(t, err, "%s", s.console)
	return out.String(), exited
}

// end waits for a machine that ends by itself.
func (s *started) end(t *testing.T) error {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(machineLimit):
		require.FailNow(t, "the machine does not end", "%s", s.console)
	}
	return s.Err()
}

// record is what the double has recorded so far. It goes with the machine.
func (s *started) record(t *testing.T) []kruntest.Entry {
	t.Helper()
	return kruntest.Record(t, filepath.Join(s.dir, "krun", kruntest.RecordFile))
}

// descendants are the processes below one, by their ids.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	require.NoError(t, err)
	var all []int
	for _, word := range strings.Fields(string(list)) {
		var child int
		_, err := fmt.Sscan(word, &child)
		require.NoError(t, err)
		all = append(append(all, child), descendants(t, child)...)
	}
	return all
}

// requireGone waits until none of the processes is there.
func requireGone(t *testing.T, pids []int) {
	t.Helper()
	require.NotEmpty(t, pids)
	require.Eventually(t, func() bool {
		for _, pid := range pids {
			if !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				return false
			}
		}
		return true
	}, machineLimit, 10*time.Millisecond)
}

// requireNothingLeft looks at the machine's directory.
func (p *place) requireNothingLeft(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(p.dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Subset(t, []string{"cache", "guestd", "image", "kvm", "scratch"}, names)
}

// socketpair is a network connection and its other end.
func socketpair(t *testing.T) (vmm, network *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "nic")
		conn, err := net.FileConn(file)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		ends[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { _ = conn.Close() })
	}
	return ends[0], ends[1]
}
