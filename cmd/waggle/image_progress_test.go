// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/image"
)

func TestPullSteps(t *testing.T) {
	t.Parallel()
	var said []string
	step := pullSteps(func(text string) { said = append(said, text) })
	a, b := digest.FromString("a"), digest.FromString("b")
	step(image.Progress{Phase: image.PhaseResolve})
	step(image.Progress{Phase: image.PhaseResolve})
	for done := range int64(1001) {
		step(image.Progress{Phase: image.PhasePull, Blob: a, Done: done, Total: 1000})
	}
	require.Len(t, said, 12, "one line for each tenth")
	require.Equal(t, "pulling 1 blobs: 100 % of 1000 B", said[11])
	step(image.Progress{Phase: image.PhasePull, Blob: b, Done: 500, Total: -1})
	require.Equal(t, "pulling 2 blobs: 100 % of 1.5 KiB", said[12])
}
