// SPDX-License-Identifier: Apache-2.0

package supervisor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/supervisor"
)

// TestClock: a guest whose clock is an hour behind, as after the host has slept,
// is set right, and then left alone.
func TestClock(t *testing.T) {
	t.Parallel()
	b := newBackend()
	x := start(t, b, func(c *supervisor.Config, _ *supervisor.Spec) { c.ClockEvery = 20 * time.Millisecond })
	first := <-b.configured
	require.WithinDuration(t, time.Now(), first.GetClock().AsTime(), time.Minute)
	b.clockOff.Store(int64(-time.Hour))
	again := <-b.configured
	require.WithinDuration(t, time.Now(), again.GetClock().AsTime(), time.Minute)
	require.Nil(t, again.GetNetwork(), "nothing but the clock is changed")
	b.clockOff.Store(0)
	asked := b.asked.Load()
	require.Eventually(t, func() bool { return b.asked.Load() > asked+3 }, 10*time.Second, 5*time.Millisecond)
	for len(b.configured) > 0 { // what was under way when the clock became right
		<-b.configured
	}
	asked = b.asked.Load()
	require.Eventually(t, func() bool { return b.asked.Load() > asked+3 }, 10*time.Second, 5*time.Millisecond)
	require.Empty(t, b.configured, "a clock that is right is not set")
	x.cancel()
	x.until(t)
}
