// SPDX-License-Identifier: Apache-2.0

package environment_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	for want, o := range map[string]environment.CreateOptions{
		"cpus must be 1 to 1":           {CPUs: 2},
		"memory_mb must be 128 to 512":  {MemoryMiB: 1024},
		"memory_mb must be":             {MemoryMiB: 1},
		`network "host" is not one of`:  {Network: "host"},
		"idempotency_key must be":       {Key: "a b"},
		`env "1A" is no name`:           {Env: map[string]string{"1A": ""}},
		"env the value of A holds":      {Env: map[string]string{"A": "a\x00"}},
		"env has 1 variables of 65537":  {Env: map[string]string{"A": strings.Repeat("x", 64<<10)}},
		"idempotency_key must be 1 to ": {Key: strings.Repeat("k", 65)},
	} {
		_, err := m.Create(t.Context(), o, nil)
		require.ErrorIs(t, err, environment.ErrInvalidArgument)
		require.ErrorContains(t, err, want)
	}
}

// TestIdempotencyKey: a call that is repeated makes nothing, whenever it comes: while
// the first one waits for its machine, afterwards, and under the next server.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	first := newManager(t, f, 4)
	alice := environment.WithOwner(t.Context(), "alice")
	o := environment.CreateOptions{Runtime: "python", Key: "job-1", Env: map[string]string{"A": "1", "B": "2"}}
	release := f.Block()
	ids := make(chan string, 5)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			info, err := first.Create(alice, o, nil)
			if err != nil {
				t.Errorf("create: %v", err)
			}
			ids <- info.ID
		})
	}
	require.Eventually(t, func() bool { return len(first.List(alice)) == 1 }, patience, patience/1000)
	release()
	all.Wait()
	close(ids)
	id := <-ids
	for other := range ids {
		require.Equal(t, id, other)
	}
	require.Len(t, first.List(alice), 1)

	first.Close()
	m := newManager(t, f, 4)
	require.Equal(t, 1, m.Adopt(t.Context(), f.Attach()))
	again, err := m.Create(alice, o, nil)
	require.NoError(t, err)
	require.Equal(t, id, again.ID)
	other := o
	other.Env = map[string]string{"A": "1"}
	_, err = m.Create(alice, other, nil)
	require.ErrorIs(t, err, environment.ErrInvalidArgument)
	require.ErrorContains(t, err, id)
	bobs, err := m.Create(environment.WithOwner(t.Context(), "bob"), o, nil)
	require.NoError(t, err)
	require.NotEqual(t, id, bobs.ID)

	require.NoError(t, m.Destroy(alice, id))
	fresh, err := m.Create(alice, o, nil)
	require.NoError(t, err)
	require.NotEqual(t, id, fresh.ID)
}
