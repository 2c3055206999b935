// SPDX-License-Identifier: Apache-2.0

package environment_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
)

// TestOwners: what one identity has made does not exist for another one, not even when
// it has ended or was taken over from an earlier server. The operator sees everything.
func TestOwners(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	first := newManager(t, f, 4)
	alice, bob := environment.WithOwner(t.Context(), "alice"), environment.WithOwner(t.Context(), "bob")
	info, err := first.Create(alice, environment.CreateOptions{Runtime: "python"}, nil)
	require.NoError(t, err)
	require.Equal(t, "alice", info.Owner)
	never := environment.NewID()

	onlyHers := func(m *environment.Manager) {
		t.Helper()
		require.Len(t, m.List(alice), 1)
		require.Len(t, m.List(t.Context()), 1)
		require.Empty(t, m.List(bob))
		_, err := m.Get(alice, info.ID)
		require.NoError(t, err)
		for call, do := range map[string]func(id string) error{
			"get":     func(id string) error { _, err := m.Get(bob, id); return err },
			"destroy": func(id string) error { return m.Destroy(bob, id) },
			"exec": func(id string) error {
				_, err := m.Exec(bob, id, environment.ExecRequest{Code: "1"})
				return err
			},
			"read": func(id string) error { _, err := m.ReadFile(bob, id, "/x", 0, 0); return err },
			"write": func(id string) error {
				_, err := m.WriteFile(bob, id, "/x", []byte("x"), environment.WriteOptions{})
				return err
			},
			"list": func(id string) error { _, err := m.ListFiles(bob, id, "/", environment.ListOptions{}); return err },
			"install": func(id string) error {
				_, err := m.InstallPackages(bob, id, environment.InstallRequest{Packages: []string{"x"}})
				return err
			},
		} {
			err := do(info.ID)
			require.ErrorIs(t, err, environment.ErrNotFound, call)
			require.EqualError(t, do(never), strings.ReplaceAll(err.Error(), info.ID, never), "%s tells it from none", call)
		}
	}
	onlyHers(first)

	first.Close()
	second := newManager(t, f, 4)
	require.Equal(t, 1, second.Adopt(t.Context(), f.Attach()))
	onlyHers(second)

	require.NoError(t, second.Destroy(alice, info.ID))
	_, err = second.Get(alice, info.ID)
	require.ErrorContains(t, err, "it was destroyed")
	_, err = second.Get(bob, info.ID)
	require.NotContains(t, err.Error(), "destroyed")

	second.Remember(never, "alice", "its supervisor was killed")
	_, err = second.Get(alice, never)
	require.ErrorContains(t, err, "killed")
	_, err = second.Get(bob, never)
	require.NotContains(t, err.Error(), "killed")
}

// TestMaxPerOwner: one identity cannot take all.
func TestMaxPerOwner(t *testing.T) {
	t.Parallel()
	m, err := environment.New(environment.Config{
		Launch: envtest.NewFleet(t).Launch, Holder: "test", Max: 3, MaxPerOwner: 1, CPUs: 1, MemoryMiB: 512, DiskMiB: 1024,
		Idle: 30 * time.Minute, ExecDefault: 30 * time.Second, ExecMax: 5 * time.Minute,
	})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	alice, bob := environment.WithOwner(t.Context(), "alice"), environment.WithOwner(t.Context(), "bob")
	info, err := m.Create(alice, environment.CreateOptions{}, nil)
	require.NoError(t, err)
	_, err = m.Create(alice, environment.CreateOptions{}, nil)
	require.ErrorIs(t, err, environment.ErrMaxEnvironments)
	require.ErrorContains(t, err, "1 of the 1 that alice may have")
	_, err = m.Create(bob, environment.CreateOptions{}, nil)
	require.NoError(t, err)
	require.NoError(t, m.Destroy(alice, info.ID))
	_, err = m.Create(alice, environment.CreateOptions{}, nil)
	require.NoError(t, err)
}
