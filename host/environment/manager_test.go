// SPDX-License-Identifier: Apache-2.0

package environment_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

const patience = 10 * time.Second

func newManager(t *testing.T, f *envtest.Fleet, maximum int) *environment.Manager {
	t.Helper()
	m, err := environment.New(environment.Config{
		Launch: f.Launch, Holder: "test", Max: maximum, CPUs: 1, MemoryMiB: 512, DiskMiB: 1024,
		Idle: 30 * time.Minute, ExecDefault: 30 * time.Second, ExecMax: 5 * time.Minute,
	})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

func create(t *testing.T, m *environment.Manager, runtime string) string {
	t.Helper()
	info, err := m.Create(t.Context(), environment.CreateOptions{Runtime: runtime}, nil)
	require.NoError(t, err)
	require.Equal(t, environment.StateRunning, info.State)
	return info.ID
}

func TestCreateValidates(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	for _, tc := range []struct {
		name string
		o    environment.CreateOptions
		err  error
		text string
	}{
		{"runtime", environment.CreateOptions{Runtime: "ruby"}, environment.ErrInvalidRuntime, "python, node, shell"},
		{"long name", environment.CreateOptions{Runtime: "python", Name: strings.Repeat("n", 65)}, environment.ErrInvalidArgument, "64"},
		{"name of two lines", environment.CreateOptions{Runtime: "python", Name: "a\nb"}, environment.ErrInvalidArgument, "printable"},
		{"negative idle", environment.CreateOptions{Runtime: "python", Idle: -1}, environment.ErrInvalidArgument, "timeout_minutes"},
		{"huge idle", environment.CreateOptions{Runtime: "python", Idle: 25 * time.Hour}, environment.ErrInvalidArgument, "1440"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := m.Create(t.Context(), tc.o, nil)
			require.ErrorIs(t, err, tc.err)
			require.ErrorContains(t, err, tc.text)
			require.Empty(t, m.List(t.Context()))
		})
	}
}

// TestSlots: a slot is taken before the boot and given back by each kind of end.
func TestSlots(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	m := newManager(t, f, 1)
	release := f.Block()
	first := make(chan error, 1)
	go func() {
		_, err := m.Create(t.Context(), environment.CreateOptions{Runtime: "python"}, nil)
		first <- err
	}()
	require.Eventually(t, func() bool { return len(m.List(t.Context())) == 1 }, patience, time.Millisecond)
	require.Equal(t, environment.StateCreating, m.List(t.Context())[0].State)
	id := m.List(t.Context())[0].ID
	_, err := m.Exec(t.Context(), id, environment.ExecRequest{Code: "1"})
	require.ErrorIs(t, err, environment.ErrNotRunning)
	_, err = m.Create(t.Context(), environment.CreateOptions{Runtime: "python"}, nil)
	require.ErrorIs(t, err, environment.ErrMaxEnvironments)

	release()
	require.NoError(t, <-first)
	require.NoError(t, m.Destroy(t.Context(), id))
	require.Empty(t, m.List(t.Context()))
	_, err = m.Get(t.Context(), id)
	require.ErrorIs(t, err, environment.ErrNotFound)
	require.ErrorContains(t, err, "destroyed")

	f.Fail(errors.New("no kernel"))
	_, err = m.Create(t.Context(), environment.CreateOptions{Runtime: "python"}, nil)
	require.ErrorIs(t, err, environment.ErrCreate)
	require.ErrorContains(t, err, "no kernel")
	require.Empty(t, m.List(t.Context()))

	f.Fail(nil)
	create(t, m, "python")
}

// TestCreateAborted: a client that hangs up and a destroy both end a boot.
func TestCreateAborted(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"hang up", "destroy", "close"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			f := envtest.NewFleet(t)
			m := newManager(t, f, 1)
			f.Block()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := m.Create(ctx, environment.CreateOptions{Runtime: "python"}, nil)
				done <- err
			}()
			require.Eventually(t, func() bool { return len(m.List(t.Context())) == 1 }, patience, time.Millisecond)
			switch how {
			case "hang up":
				cancel()
			case "destroy":
				require.NoError(t, m.Destroy(t.Context(), m.List(t.Context())[0].ID))
			case "close":
				m.Close()
			}
			require.ErrorIs(t, <-done, environment.ErrCreate)
			require.Empty(t, m.List(t.Context()))
		})
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	for id, want := range map[string]error{
		"":              environment.ErrInvalidArgument,
		"../../etc":     environment.ErrInvalidArgument,
		"ENV-AAAAAAAA":  environment.ErrInvalidArgument,
		"env-aaaaaaaa":  environment.ErrNotFound,
		"env-aaaaaaaaa": environment.ErrInvalidArgument,
	} {
		require.ErrorIs(t, m.Destroy(t.Context(), id), want, id)
	}
}

// TestEnds: what a supervisor says, or its death, becomes of the environment.
func TestEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(*envtest.Machine)
		kept bool
		text string
	}{
		{"idle", func(m *envtest.Machine) { m.End(hostv1.EndCause_END_CAUSE_IDLE, "") }, false, "idle timeout"},
		{"crashed", func(m *envtest.Machine) {
			m.Stopping(hostv1.EndCause_END_CAUSE_CRASHED, "kernel panic")
			m.End(hostv1.EndCause_END_CAUSE_CRASHED, "kernel panic")
		}, true, "kernel panic"},
		{"supervisor killed", func(m *envtest.Machine) { m.Crash() }, true, "supervisor was killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := envtest.NewFleet(t)
			m := newManager(t, f, 1)
			id := create(t, m, "python")
			tc.end(f.Machine(id))
			require.Eventually(t, func() bool {
				info, err := m.Get(t.Context(), id)
				return err != nil || info.State == environment.StateFailed
			}, patience, time.Millisecond)
			info, err := m.Get(t.Context(), id)
			if tc.kept {
				require.NoError(t, err)
				require.Contains(t, info.Cause, tc.text)
				_, err := m.ReadFile(t.Context(), id, "/x", 0, 0)
				require.ErrorIs(t, err, environment.ErrNotRunning)
				require.ErrorContains(t, err, tc.text)
			} else {
				require.ErrorIs(t, err, environment.ErrNotFound)
				require.ErrorContains(t, err, tc.text)
			}
			create(t, m, "python") // the slot is free
			if tc.kept {
				require.NoError(t, m.Destroy(t.Context(), id))
			}
			require.Len(t, m.List(t.Context()), 1)
		})
	}
}

// TestAdopt: a server takes over what an earlier one left.
func TestAdopt(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	first := newManager(t, f, 2)
	id := create(t, first, "python")
	holders := func(n int) func() bool { return func() bool { return len(f.Machine(id).Holders()) == n } }
	require.Eventually(t, holders(1), patience, time.Millisecond)
	first.Close()
	_, err := first.Create(t.Context(), environment.CreateOptions{Runtime: "python"}, nil)
	require.ErrorIs(t, err, environment.ErrCreate)

	second := newManager(t, f, 1)
	require.Equal(t, 1, second.Adopt(t.Context(), f.Attach()))
	info, err := second.Get(t.Context(), id)
	require.NoError(t, err)
	require.True(t, info.Adopted)
	require.Equal(t, "python", info.Runtime)
	require.Equal(t, 30*time.Minute, info.Idle)
	_, err = second.Create(t.Context(), environment.CreateOptions{Runtime: "python"}, nil)
	require.ErrorIs(t, err, environment.ErrMaxEnvironments)
	r, err := second.Exec(t.Context(), id, environment.ExecRequest{Code: "print(6*7)"})
	require.NoError(t, err)
	require.Equal(t, "42\n", r.Stdout.Text)
	require.Eventually(t, holders(2), patience, time.Millisecond)
	require.NoError(t, second.Destroy(t.Context(), id))
	require.Empty(t, second.List(t.Context()))
}

// TestDestroyTogether: whoever destroys an environment that somebody else is
// destroying has what they asked for when it is gone.
func TestDestroyTogether(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	m := newManager(t, f, 1)
	id := create(t, m, "python")
	ends := make(chan error, 4)
	for range cap(ends) {
		go func() { ends <- m.Destroy(t.Context(), id) }()
	}
	for range cap(ends) {
		if err := <-ends; err != nil { // it came when all was over
			require.ErrorIs(t, err, environment.ErrNotFound)
		}
	}
	require.Empty(t, m.List(t.Context()))
}

// TestRemember: a server knows why an environment ended that it never had.
func TestRemember(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	id := environment.NewID()
	m.Remember(id, "", "its supervisor was killed")
	_, err := m.Get(t.Context(), id)
	require.ErrorIs(t, err, environment.ErrNotFound)
	require.ErrorContains(t, err, "its supervisor was killed")
}
