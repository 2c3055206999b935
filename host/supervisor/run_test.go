// SPDX-License-Identifier: Apache-2.0

package supervisor_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/egress"
	"github.com/stacklok/waggle/host/supervisor"
	"github.com/stacklok/waggle/proto"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// bench is one supervisor running in the test's process.
type bench struct {
	dir     string
	spec    supervisor.Spec
	backend *backend
	cancel  context.CancelFunc
	ended   chan error
	client  *supervisor.Client
	// states are all that it had, complete when followed is closed.
	states   []*hostv1.State
	followed chan error
}

// shortDir is a directory whose sockets have short paths.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wgl")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func start(t *testing.T, b *backend, change func(*supervisor.Config, *supervisor.Spec)) *bench {
	t.Helper()
	base := shortDir(t)
	root := filepath.Join(base, "root.ext4")
	require.NoError(t, os.WriteFile(root, nil, 0o600))
	cache, err := disk.Open(filepath.Join(base, "disks"), disk.Limits{})
	require.NoError(t, err)
	x := &bench{
		dir: filepath.Join(base, "e1"), backend: b, ended: make(chan error, 1), followed: make(chan error, 1),
		spec: supervisor.Spec{
			ID: "e1", Name: "test", CPUs: 1, MemoryMiB: 64, DiskMiB: 32, Network: egress.None,
			RootDisk: root, ScratchPath: filepath.Join(base, "e1.ext4"), Env: map[string]string{"A": "b"},
		},
	}
	require.NoError(t, os.Mkdir(x.dir, 0o700))
	listening, attached := make(chan struct{}), make(chan struct{})
	cfg := supervisor.Config{
		Dir: x.dir, Backend: b, Disks: cache, Accelerator: "none",
		// The machine is made when the test follows it: its end may be near.
		Listening: func() {
			close(listening)
			<-attached
		},
	}
	if change != nil {
		change(&cfg, &x.spec)
	}
	ctx, cancel := context.WithCancel(t.Context())
	x.cancel = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.ended <- supervisor.Run(ctx, cfg, x.spec)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-listening:
	case err := <-x.ended:
		require.NoError(t, err)
	}
	x.client, err = supervisor.Attach(x.dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.client.Close() })
	go func() {
		first := sync.OnceFunc(func() { close(attached) })
		defer first()
		x.followed <- x.client.Wait(t.Context(), "", func(s *hostv1.State) bool {
			x.states = append(x.states, s)
			first()
			return true
		})
	}()
	<-attached
	return x
}

// until waits for the machine's end and returns the phases that it had.
func (x *bench) until(t *testing.T) (phases []string, last *hostv1.State) {
	t.Helper()
	require.NoError(t, <-x.followed)
	for _, s := range x.states {
		phases = append(phases, supervisor.PhaseName(s.GetPhase()))
	}
	return phases, x.states[len(x.states)-1]
}

func (x *bench) running(t *testing.T) {
	t.Helper()
	require.NoError(t, x.client.WaitRunning(t.Context(), "", nil))
}

// nothingLeft holds the promise of a clean end.
func (x *bench) nothingLeft(t *testing.T) {
	t.Helper()
	require.NoDirExists(t, x.dir)
	require.NoFileExists(t, x.spec.ScratchPath)
}

func TestLifeAndStop(t *testing.T) {
	t.Parallel()
	b := newBackend()
	x := start(t, b, func(_ *supervisor.Config, s *supervisor.Spec) { s.Network = egress.Open })
	x.running(t)
	told := <-b.configured
	require.Equal(t, "e1", told.GetHostname())
	require.Equal(t, map[string]string{"A": "b"}, told.GetEnv().GetVariables())
	require.NotEmpty(t, told.GetNetwork().GetAddress())
	require.NotEmpty(t, told.GetNetwork().GetNameservers())
	require.WithinDuration(t, time.Now(), told.GetClock().AsTime(), time.Minute)
	require.FileExists(t, x.spec.ScratchPath)
	require.Len(t, b.machine().spec.Disks, 2)
	require.True(t, b.machine().spec.Disks[0].ReadOnly)

	info, err := x.client.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, hostv1.Phase_PHASE_RUNNING, info.GetState().GetPhase())
	require.Equal(t, "v1.2.3[2J", info.GetGuestdVersion(), "control characters of the guest are dropped")
	require.Equal(t, proto.GuestProtocolMax, info.GetGuestdProtocol())
	require.Equal(t, "guest: kernel", info.GetTimings()[len(info.GetTimings())-1].GetName())
	require.NotZero(t, info.GetVmmPid())

	state, err := x.client.Stop(t.Context(), 5*time.Second, "test")
	require.NoError(t, err)
	require.Equal(t, hostv1.EndCause_END_CAUSE_STOPPED, state.GetCause())
	x.nothingLeft(t)
	require.NoError(t, <-x.ended)
	_, err = x.client.Info(t.Context())
	require.ErrorIs(t, err, supervisor.ErrGone)
}

// TestSignal: the end of the context is an orderly stop.
func TestSignal(t *testing.T) {
	t.Parallel()
	x := start(t, newBackend(), nil)
	x.running(t)
	x.cancel()
	require.NoError(t, <-x.ended)
	x.nothingLeft(t)
}

// TestStopHurries: a guest that ignores Shutdown is cut by a second Stop.
func TestStopHurries(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.deaf = true
	x := start(t, b, nil)
	x.running(t)
	first := make(chan error, 1)
	go func() {
		_, err := x.client.Stop(t.Context(), time.Minute, "patient")
		first <- err
	}()
	require.NoError(t, x.client.Wait(t.Context(), "", func(s *hostv1.State) bool {
		return s.GetPhase() != hostv1.Phase_PHASE_STOPPING
	}))
	state, err := x.client.Stop(t.Context(), 0, "impatient")
	require.NoError(t, err)
	require.Equal(t, "patient", state.GetMessage(), "the first request is the cause")
	require.NoError(t, <-first)
	x.nothingLeft(t)
}

func TestEndings(t *testing.T) {
	t.Parallel()
	type setup = func(*supervisor.Config, *supervisor.Spec)
	for _, tc := range []struct {
		name    string
		backend func(*backend)
		setup   setup
		act     func(*bench)
		cause   hostv1.EndCause
		message string
	}{
		{"idle", func(b *backend) { b.idle.Store(int64(time.Hour)) },
			func(_ *supervisor.Config, s *supervisor.Spec) { s.IdleTimeout = 10 * time.Millisecond }, nil,
			hostv1.EndCause_END_CAUSE_IDLE, "nothing ran"},
		{"lifetime", nil,
			func(_ *supervisor.Config, s *supervisor.Spec) { s.MaxLifetime = 10 * time.Millisecond }, nil,
			hostv1.EndCause_END_CAUSE_LIFETIME, "maximum lifetime"},
		{"orphan", nil,
			func(_ *supervisor.Config, s *supervisor.Spec) { s.OrphanTimeout = 10 * time.Millisecond }, nil,
			hostv1.EndCause_END_CAUSE_ORPHANED, "no server"},
		{"start fails", func(b *backend) { b.startErr = errBoom }, nil, nil,
			hostv1.EndCause_END_CAUSE_BOOT_FAILED, errBoom.Error()},
		{"no call", func(b *backend) { b.mute, b.onConsole = true, "Kernel panic\n\x1b[31mno init\n" },
			func(c *supervisor.Config, _ *supervisor.Spec) { c.BootTimeout = 3 * time.Second }, nil,
			hostv1.EndCause_END_CAUSE_BOOT_FAILED, "no progress"},
		{"wrong protocol", func(b *backend) { b.protocol = 99 }, nil, nil,
			hostv1.EndCause_END_CAUSE_BOOT_FAILED, "99 to 99"},
		{"crash", nil, nil, func(x *bench) { x.backend.machine().end(errBoom) },
			hostv1.EndCause_END_CAUSE_CRASHED, errBoom.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBackend()
			if tc.backend != nil {
				tc.backend(b)
			}
			x := start(t, b, tc.setup)
			if tc.act != nil {
				x.running(t)
				tc.act(x)
			}
			phases, last := x.until(t)
			require.Equal(t, []string{"STARTING", "STOPPING", "ENDED"}, slices.DeleteFunc(phases, func(p string) bool {
				return p == "BOOTING" || p == "CONFIGURING" || p == "RUNNING"
			}))
			require.Equal(t, tc.cause, last.GetCause())
			require.Contains(t, last.GetMessage(), tc.message)
			require.NoFileExists(t, x.spec.ScratchPath)
			err := <-x.ended
			if tc.cause != hostv1.EndCause_END_CAUSE_BOOT_FAILED && tc.cause != hostv1.EndCause_END_CAUSE_CRASHED {
				require.NoError(t, err)
				x.nothingLeft(t)
				return
			}
			require.ErrorContains(t, err, tc.message)
			record, err := supervisor.ReadRecord(x.dir)
			require.NoError(t, err)
			require.Equal(t, "ENDED", record.Phase)
			require.Contains(t, record.Message, tc.message)
			require.NoFileExists(t, filepath.Join(x.dir, "guestd.sock"))
			require.NoFileExists(t, filepath.Join(x.dir, "supervisor.sock"))
			if b.onConsole != "" {
				require.Equal(t, "Kernel panic\n[31mno init", last.GetConsoleTail())
				console, err := os.ReadFile(supervisor.ConsolePath(x.dir))
				require.NoError(t, err)
				require.Equal(t, b.onConsole, string(console))
			}
		})
	}
}

// TestBusyIsNotIdle: the limit counts from the end of what runs.
func TestBusyIsNotIdle(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.idle.Store(int64(time.Hour)) // what it says while it runs something is not asked
	b.running.Store(1)
	x := start(t, b, func(_ *supervisor.Config, s *supervisor.Spec) { s.IdleTimeout = time.Millisecond })
	x.running(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := x.client.Wait(ctx, "", func(s *hostv1.State) bool { return s.GetPhase() <= hostv1.Phase_PHASE_RUNNING })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	b.running.Store(0)
	_, last := x.until(t)
	require.Equal(t, hostv1.EndCause_END_CAUSE_IDLE, last.GetCause())
}

// TestHolder: a machine lives while somebody holds it, and the holder's end is
// noticed by the end of its stream.
func TestHolder(t *testing.T) {
	t.Parallel()
	ctx, letGo := context.WithCancel(t.Context())
	x := start(t, newBackend(), func(_ *supervisor.Config, s *supervisor.Spec) { s.OrphanTimeout = 3 * time.Second })
	held := make(chan struct{})
	gone := make(chan error, 1)
	go func() {
		gone <- x.client.Wait(ctx, "serve 4711", func(s *hostv1.State) bool {
			if s.GetPhase() == hostv1.Phase_PHASE_RUNNING {
				close(held)
			}
			return true
		})
	}()
	<-held
	info, err := x.client.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"serve 4711"}, info.GetHolders())
	still, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	err = x.client.Wait(still, "", func(s *hostv1.State) bool { return s.GetPhase() <= hostv1.Phase_PHASE_RUNNING })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	letGo()
	require.ErrorIs(t, <-gone, context.Canceled)
	_, last := x.until(t)
	require.Equal(t, hostv1.EndCause_END_CAUSE_ORPHANED, last.GetCause())
}

// TestStopWhileBooting must not wait for a guest that cannot answer yet.
func TestStopWhileBooting(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.mute = true
	x := start(t, b, nil)
	require.NoError(t, x.client.Wait(t.Context(), "", func(s *hostv1.State) bool {
		return s.GetPhase() < hostv1.Phase_PHASE_BOOTING
	}))
	state, err := x.client.Stop(t.Context(), time.Minute, "changed my mind")
	require.NoError(t, err)
	require.Equal(t, hostv1.EndCause_END_CAUSE_STOPPED, state.GetCause())
	x.nothingLeft(t)
}

// TestConsoleFlood: a guest that writes for ever fills nothing.
func TestConsoleFlood(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.onConsole = "first line\n" + strings.Repeat("0123456789abcde\n", 200_000) + "last line\n"
	x := start(t, b, nil)
	x.running(t)
	text, err := os.ReadFile(supervisor.ConsolePath(x.dir))
	require.NoError(t, err)
	require.Less(t, len(text), 512<<10)
	require.True(t, strings.HasPrefix(string(text), "first line\n"))
	require.True(t, strings.HasSuffix(string(text), "last line\n"))
	require.Contains(t, string(text), "were dropped here")
}

func TestRunDirTooLong(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	require.NoError(t, os.Mkdir(dir, 0o700))
	err := supervisor.Run(t.Context(), supervisor.Config{Dir: dir, Backend: newBackend()},
		supervisor.Spec{ID: "e1", CPUs: 1, MemoryMiB: 1, Network: egress.None})
	require.ErrorContains(t, err, "WAGGLE_RUN_DIR")
}

func TestSpecCheck(t *testing.T) {
	t.Parallel()
	good := supervisor.Spec{ID: "e1", CPUs: 1, MemoryMiB: 1, Network: egress.None}
	require.NoError(t, good.Check())
	for want, change := range map[string]func(*supervisor.Spec){
		"malformed":        func(s *supervisor.Spec) { s.ID = "../e" },
		"cpus":             func(s *supervisor.Spec) { s.CPUs = 0 },
		"memory":           func(s *supervisor.Spec) { s.MemoryMiB = -1 },
		"open or none":     func(s *supervisor.Spec) { s.Network = "all" },
		"root disk":        func(s *supervisor.Spec) { s.RootDisk = "x" },
		"absolute":         func(s *supervisor.Spec) { s.ScratchPath = "x" },
		"without a root":   func(s *supervisor.Spec) { s.ScratchPath = "/x" },
		"timeout is negat": func(s *supervisor.Spec) { s.IdleTimeout = -1 },
	} {
		bad := good
		change(&bad)
		require.ErrorContains(t, bad.Check(), want)
	}
}

// TestPlainGuest: a guestd that does not own its machine is configured with what is
// its own, its clock is not kept, and it is not asked to power off.
func TestPlainGuest(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.plain = true
	b.clockOff.Store(int64(-time.Hour))
	x := start(t, b, func(c *supervisor.Config, s *supervisor.Spec) {
		c.ClockEvery = 5 * time.Millisecond
		s.Network, s.Cwd = egress.Open, "/work"
		s.IdleTimeout = 100 * time.Millisecond // ends it after some turns of a clock keeper
	})
	req := <-b.configured
	require.Equal(t, "/work", req.GetCwd())
	require.Equal(t, map[string]string{"A": "b"}, req.GetEnv().GetVariables())
	require.NotNil(t, req.GetResults())
	require.Nil(t, req.Hostname)
	require.Nil(t, req.GetUser())
	require.Nil(t, req.GetNetwork())
	require.Nil(t, req.CaBundlePem)
	require.Nil(t, req.GetClock())
	b.idle.Store(int64(time.Hour))
	phases, last := x.until(t)
	require.Contains(t, phases, "RUNNING")
	require.Equal(t, hostv1.EndCause_END_CAUSE_IDLE, last.GetCause())
	require.Empty(t, b.configured, "its clock is not set")
	require.Zero(t, b.shutdowns.Load())
}
