// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDoctor looks at a machine without kernel and guestd: both are named with a
// remedy, and looking has made nothing.
func TestDoctor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := doctorCmd{dataFlags: dataFlags{DataDir: filepath.Join(dir, "data")}, GuestdDir: dir}
	byCheck := map[string]finding{}
	for _, f := range c.examine(t.Context()) {
		byCheck[f.Check] = f
		if f.Status == statusMissing {
			require.NotEmpty(t, f.Remedy, f.Check)
		}
	}
	require.Equal(t, statusMissing, byCheck["kernel"].Status)
	require.Equal(t, statusMissing, byCheck["guestd"].Status)
	require.Equal(t, statusNote, byCheck["images"].Status)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.ErrorIs(t, c.Run(t.Context()), errUnfit)
}
