// SPDX-License-Identifier: Apache-2.0

package supervisor_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// TestPause: a follower hears of each pause and of its end, and a machine goes on
// when its file system has space, as the one here has.
func TestPause(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.deaf = true
	x := start(t, b, nil)
	x.running(t)
	changed := make(chan string)
	go func() {
		_ = x.client.Wait(t.Context(), "", func(s *hostv1.State) bool {
			select {
			case changed <- s.GetPaused():
				return true
			case <-t.Context().Done():
				return false
			}
		})
	}()
	require.Empty(t, <-changed)
	for range 2 {
		b.machine().spec.Paused(true)
		why := <-changed
		require.Contains(t, why, "the host's disk is full: free at least 64 MiB for ")
		require.Empty(t, <-changed)
	}
	info, err := x.client.Info(t.Context())
	require.NoError(t, err)
	require.Empty(t, info.GetState().GetPaused())
	require.Equal(t, hostv1.Phase_PHASE_RUNNING, info.GetState().GetPhase())

	// It does not go on, and ends all the same: a guest that stands still cannot
	// shut down, and is not waited for.
	b.stuck.Store(true)
	b.machine().spec.Paused(true)
	require.NotEmpty(t, <-changed)
	go func() { <-changed; <-changed }() // stopping, ended
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = x.client.Stop(ctx, time.Minute, "test")
	require.NoError(t, err)
	x.nothingLeft(t)
}

// TestPauseWhileBooting: a machine that cannot boot for want of space says so at
// once.
func TestPauseWhileBooting(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.mute, b.fillsDisk = true, true
	x := start(t, b, nil)
	_, last := x.until(t)
	require.Contains(t, last.GetMessage(), "the host's disk is full")
	require.NoFileExists(t, x.spec.ScratchPath)
}
