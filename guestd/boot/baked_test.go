// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// imageWith is a root with a guestd.json, unless empty, and a guestd of some mode,
// unless 0.
func imageWith(t *testing.T, info string, mode os.FileMode) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, filepath.Dir(bakedPath)), 0o755))
	if info != "" {
		require.NoError(t, os.WriteFile(filepath.Join(root, bakedInfo), []byte(info), 0o644))
	}
	if mode != 0 {
		require.NoError(t, os.WriteFile(filepath.Join(root, bakedPath), nil, mode))
	}
	return root
}

func TestTakeBaked(t *testing.T) {
	t.Parallel()
	const fits = `{"version":"v1","protocol_min":1,"protocol_max":1,"digest":"sha256:a"}`
	for _, tc := range []struct {
		name, info string
		mode       os.FileMode
		use        string
		take       bool
		refused    string
	}{
		{"fits", fits, 0o755, useAuto, true, ""},
		{"fits, baked", fits, 0o755, useBaked, true, ""},
		{"a range that overlaps", `{"protocol_min":1,"protocol_max":9}`, 0o755, "", true, ""},
		{"newer", `{"version":"v9","protocol_min":8,"protocol_max":9}`, 0o755, "", false, `"v9" speaks protocol 8 to 9, this waggle 1 to 1`},
		{"no range", `{}`, 0o755, "", false, "speaks protocol 0 to 0"},
		{"not executable", fits, 0o644, "", false, "not an executable file"},
		{"no binary", fits, 0, "", false, "is not"},
		{"not JSON", "x", 0o755, "", false, "parse /usr/lib/waggle/guestd.json"},
	} {
		take, err := takeBaked(self{Use: tc.use}, imageWith(t, tc.info, tc.mode))
		require.Equal(t, tc.take, take, tc.name)
		if tc.refused == "" {
			require.NoError(t, err, tc.name)
			continue
		}
		require.ErrorContains(t, err, tc.refused, tc.name)
		require.NotErrorIs(t, err, fs.ErrNotExist, "%s: the host is to hear of it", tc.name)
	}
	_, err := takeBaked(self{}, t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist, "an image without one is no news")
	own := self{Info: Info{Digest: "sha256:a"}}
	take, err := takeBaked(own, imageWith(t, fits, 0o755))
	require.NoError(t, err)
	require.False(t, take, "it is the one that runs")
	own.Use = useBaked
	take, err = takeBaked(own, imageWith(t, fits, 0o755))
	require.NoError(t, err)
	require.True(t, take)
}

// TestHandOver: this machine, the test's own, has no baked guestd.
func TestHandOver(t *testing.T) {
	t.Parallel()
	m := &Machine{log: slog.New(slog.DiscardHandler)}
	require.NoError(t, m.handOver(self{}))
	require.NoError(t, m.handOver(self{Use: useHost}))
	require.Empty(t, m.ImageAgentRefused())
	err := m.handOver(self{Use: useBaked})
	require.ErrorContains(t, err, "WAGGLE_GUESTD is baked")
	require.ErrorContains(t, err, "waggle image bake")
}
