// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRmRemovesWhatItCan: a name that fits nothing keeps no other environment alive,
// and is reported.
func TestRmRemovesWhatItCan(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "wr") // short: sockets are to lie below it
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := rmCmd{
		dataFlags: dataFlags{DataDir: filepath.Join(dir, "data")}, runDirFlags: runDirFlags{RunDir: filepath.Join(dir, "run")},
		ID: []string{"env-none", "env-aaaaaaaa", "env-a"},
	}
	dead := filepath.Join(c.RunDir, "env-aaaaaaaa")
	crash := func() {
		require.NoError(t, os.MkdirAll(dead, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dead, "vm.json"), []byte(`{"version":1}`), 0o600))
	}
	crash()
	require.ErrorContains(t, c.Run(t.Context()), `no environment "env-none"`)
	require.NoDirExists(t, dead)

	crash()
	c.All = true
	require.ErrorContains(t, c.Run(t.Context()), "not both")
	require.DirExists(t, dead)
	c.All, c.ID = false, nil
	require.ErrorContains(t, c.Run(t.Context()), "or give --all")
	require.DirExists(t, dead)
}
