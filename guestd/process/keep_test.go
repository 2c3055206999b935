// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"runtime"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// TestKeep lowers the limits of a service at work.
func TestKeep(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	left := func(n int) {
		t.Helper()
		// The last stream may still be counted as a follower, which keeps its exec.
		require.Eventually(t, func() bool {
			list, err := f.List(t.Context(), connect.NewRequest(&guestv1.ProcessListRequest{}))
			return err == nil && len(list.Msg.GetExecs()) == n
		}, 30*time.Second, time.Millisecond)
	}
	for range 5 {
		f.must(t, shell("echo x"))
	}
	left(5)
	f.service.Keep(0, 3, 0)
	left(3)
	f.service.Keep(0, 0, 1<<20) // nothing needs the room yet
	left(3)
	f.must(t, shell("head -c 1000000 /dev/zero"))
	left(1)
	f.service.Keep(time.Nanosecond, 0, 0)
	left(0)
}

// TestKeptIsSmall: what is kept of an ended exec is its outcome, not the memory that it
// was read with: guestd has little. Not parallel: it measures the heap.
func TestKeptIsSmall(t *testing.T) {
	const execs, each = 200, 8 << 10
	f := newFixture(t)
	heap := func() int64 {
		var m runtime.MemStats
		for range 2 { // what a pool holds survives one collection
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	run := func(n int) {
		for range n {
			f.must(t, argv("true"))
		}
	}
	run(20) // what grows once
	before := heap()
	run(execs)
	require.Less(t, heap()-before, int64(execs*each))
}
