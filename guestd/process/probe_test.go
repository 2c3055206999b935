// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/guestd/process"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// TestProbe: what is found is what an exec would run, along the configured PATH.
func TestProbe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"tool": 0o755, "text": 0o644} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, mode))
	}
	require.NoError(t, os.Symlink("tool", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	f := newFixture(t, func(c *process.Config) {
		c.Defaults.SetEnv(map[string]string{"PATH": "relative::/nonexistent:" + dir})
		c.Defaults.SetCwd("/tmp")
	})
	res, err := f.Probe(t.Context(), connect.NewRequest(&guestv1.ProcessProbeRequest{
		Programs: []string{"tool", "link", "text", "dangling", "dir", "none", "/bin/sh", "/none"},
	}))
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"tool": filepath.Join(dir, "tool"), "link": filepath.Join(dir, "link"), "/bin/sh": "/bin/sh",
	}, res.Msg.GetPrograms())
	require.Equal(t, "/tmp", res.Msg.GetCwd())
	require.EqualValues(t, os.Geteuid(), res.Msg.GetUid())
	require.NotEmpty(t, res.Msg.GetHome())
	for _, bad := range [][]string{{""}, {"a/b"}, {"a\x00b"}, {strings.Repeat("a", 2000)}, make([]string, 65)} {
		_, err := f.Probe(t.Context(), connect.NewRequest(&guestv1.ProcessProbeRequest{Programs: bad}))
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
		require.ErrorContains(t, err, "programs:")
	}
}
