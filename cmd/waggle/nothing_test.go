// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/image"
)

// TestReadingMakesNothing: a command that only looks, or removes, leaves no directory
// where there was none, and neither does a server that does not start.
func TestReadingMakesNothing(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "wn") // short: sockets are to lie below it
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data := dataFlags{DataDir: filepath.Join(dir, "data")}
	run := runDirFlags{RunDir: filepath.Join(dir, "a", "run")}
	ctx := t.Context()
	require.NoError(t, (&psCmd{runDirFlags: run}).Run(ctx))
	require.NoError(t, (&rmCmd{dataFlags: data, runDirFlags: run, All: true}).Run(ctx))
	require.NoError(t, (&imageLsCmd{dataFlags: data}).Run())
	require.ErrorIs(t, (&imageRmCmd{dataFlags: data, Refs: []string{"a"}}).Run(ctx), image.ErrNotFound)
	target := targetFlags{runDirFlags: run}
	for name, err := range map[string]error{
		"status": (&statusCmd{runDirFlags: run}).write(ctx, io.Discard),
		"rm":     (&rmCmd{dataFlags: data, runDirFlags: run, ID: []string{"env-a"}}).Run(ctx),
		"logs":   (&logsCmd{runDirFlags: run, ID: "env-a"}).Run(),
		"ls":     (&lsCmd{targetFlags: target, Path: "env-a"}).Run(ctx),
		"kill":   (&killCmd{targetFlags: target, Exec: []string{"x"}}).Run(ctx),
	} {
		require.Error(t, err, name)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	for name, args := range map[string][]string{
		"address": {"--listen-addr", taken.Addr().String()},
		"guestd":  {"--listen-addr", "127.0.0.1:0", "--guestd-dir", filepath.Join(dir, "none")},
	} {
		c := serveCommand(t, args...)
		require.Error(t, c.run(ctx, io.Discard, slog.New(slog.DiscardHandler)), name)
		require.NoDirExists(t, c.RunDir, name)
		require.NoDirExists(t, c.DataDir, name)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}
