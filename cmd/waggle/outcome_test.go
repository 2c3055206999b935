// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/supervisor"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func TestOutcome(t *testing.T) {
	t.Parallel()
	spawn := func(kind guestv1.SpawnFailureKind) *guestv1.Exited {
		return &guestv1.Exited{Outcome: &guestv1.Exited_SpawnFailure{SpawnFailure: &guestv1.SpawnFailure{Kind: kind}}}
	}
	for name, tc := range map[string]struct {
		exited *guestv1.Exited
		want   error
	}{
		"success":     {&guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{}}, nil},
		"code":        {&guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{ExitCode: 3}}, exitError(3)},
		"hostile":     {&guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{ExitCode: -1}}, exitError(255)},
		"signal":      {&guestv1.Exited{Outcome: &guestv1.Exited_Signal{Signal: 9}}, exitError(137)},
		"not found":   {spawn(guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND), exitError(127)},
		"not started": {spawn(guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_PERMISSION), exitError(126)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, outcome(tc.exited, "x"))
		})
	}
	require.ErrorContains(t, outcome(&guestv1.Exited{}, "x"), "did not say")
}

func TestDefaultRunDir(t *testing.T) {
	t.Parallel()
	env := func(v string) func(string) string { return func(string) string { return v } }
	require.Equal(t, "/run/waggle", defaultRunDir(0, env("/x")))
	require.Equal(t, "/x/waggle", defaultRunDir(7, env("/x")))
	require.Equal(t, "/tmp/waggle-7", defaultRunDir(7, env("")))
	require.Equal(t, "/tmp/waggle-7", defaultRunDir(7, env("relative")))
}

// TestRunDir: whoever can enter the directory can act for its owner.
func TestRunDir(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dir, err := runDirFlags{RunDir: filepath.Join(base, "a", "b")}.runDir()
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	open := filepath.Join(base, "open")
	require.NoError(t, os.Mkdir(open, 0o755))
	_, err = runDirFlags{RunDir: open}.runDir()
	require.ErrorContains(t, err, "chmod 700")
	link := filepath.Join(base, "link")
	require.NoError(t, os.Symlink(dir, link))
	_, err = runDirFlags{RunDir: link}.runDir()
	require.ErrorContains(t, err, "not a directory")
	require.NoError(t, os.WriteFile(filepath.Join(base, "file"), nil, 0o600))
	_, err = runDirFlags{RunDir: filepath.Join(base, "file")}.runDir()
	require.ErrorContains(t, err, "WAGGLE_RUN_DIR")
}

func TestPsTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	dead := supervisor.Listed{ID: "env-b", Record: &supervisor.Record{
		Cause: "CRASHED", Message: "boom\x1b[2J\nsecond line", CreatedAt: time.Now(),
		Spec: supervisor.Spec{Runtime: "python", CPUs: 1, MemoryMiB: 512},
	}}
	require.NoError(t, table(&out, []psRow{row(t.Context(), dead)}))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 2)
	require.Contains(t, lines[1], "dead")
	require.Contains(t, lines[1], "boom[2J")
	require.NotContains(t, lines[1], "\x1b")
}

func TestCopyPrintable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	long := strings.Repeat("x", 200<<10)
	require.NoError(t, copyPrintable(&out, strings.NewReader("a\x1b]0;title\x07b\n"+long)))
	require.Equal(t, "a]0;titleb\n"+long, out.String())
}
