// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSweep sweeps in the middle of a build, which it must not disturb.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	builder, err := Open(dir, Limits{})
	require.NoError(t, err)
	raw := makeTar(t, reg("a", "content"))
	layers := []Layer{{Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }}}
	writing, goOn, built := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		wait := true
		_, err := builder.Root(t.Context(), keyOf("k"), layers, func(p Progress) {
			if p.Phase == PhaseWrite && wait {
				wait = false
				close(writing)
				<-goOn
			}
		})
		built <- err
	}()
	<-writing
	c, err := Open(dir, Limits{})
	require.NoError(t, err)
	var left []string
	for _, name := range []string{buildPrefix + "scratch-64-v1.ext4-123", buildPrefix + "sha256-00-v1.ext4-4"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, make([]byte, 8192), 0o600))
		left = append(left, path)
	}
	layer := filepath.Join(dir, buildPrefix+"layer-1")
	require.NoError(t, os.WriteFile(layer, nil, 0o600))
	removed, freed, err := c.Sweep()
	require.NoError(t, err)
	require.ElementsMatch(t, left, removed)
	require.GreaterOrEqual(t, freed, int64(2*8192))
	require.FileExists(t, layer, "it may be in use: nobody locks it")
	close(goOn)
	require.NoError(t, <-built)
	removed, _, err = c.Sweep()
	require.NoError(t, err)
	require.Empty(t, removed)
	infos, err := c.List()
	require.NoError(t, err)
	require.Len(t, infos, 1)
}
