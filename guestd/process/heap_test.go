// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHeapFollowsExecs is not parallel: the limit is the process's.
func TestHeapFollowsExecs(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	const base = 1 << 40 // no collection comes of it
	debug.SetMemoryLimit(base)
	h := newHeap()
	for _, step := range []struct {
		running int
		more    int64
	}{
		{1, 0},
		{32, 0},
		{33, 32 * heapPerExec},
		{32, 32 * heapPerExec}, // not at once
		{17, 32 * heapPerExec},
		{16, 0},
		{100, 96 * heapPerExec},
		{512, heapMost},
		{0, 0},
	} {
		h.fit(step.running)
		require.Equal(t, base+step.more, debug.SetMemoryLimit(-1), "%d execs", step.running)
	}
}

func TestHeapWithoutLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	h := newHeap()
	h.fit(400)
	require.Equal(t, before, debug.SetMemoryLimit(-1))
}
