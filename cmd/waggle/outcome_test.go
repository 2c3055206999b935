// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
		got    uint64
		want   error
	}{
		"success":          {&guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{}, StdoutBytes: 3, StderrBytes: 4}, 7, nil},
		"lost output":      {&guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{}, StdoutBytes: 3, StderrBytes: 4}, 6, exitError(125)},
		"lost, and a code": {&guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{ExitCode: 9}, StdoutBytes: 3}, 0, exitError(9)},
		"code":             {&guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{ExitCode: 3}}, 0, exitError(3)},
		"hostile":          {&guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{ExitCode: -1}}, 0, exitError(255)},
		"signal":           {&guestv1.Exited{Outcome: &guestv1.Exited_Signal{Signal: 9}}, 0, exitError(137)},
		"not found":        {spawn(guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND), 0, exitError(127)},
		"not started":      {spawn(guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_PERMISSION), 0, exitError(126)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, complete(tc.exited, tc.got, outcome(tc.exited, "id", "x")))
		})
	}
	require.ErrorContains(t, outcome(&guestv1.Exited{}, "id", "x"), "did not say")
}

func TestLeftRunning(t *testing.T) {
	t.Parallel()
	require.Empty(t, leftRunning(&guestv1.Exited{}, "id"))
	require.Equal(t, "1 process that the command left running was ended", leftRunning(&guestv1.Exited{LeftRunning: 1}, "id"))
	require.Equal(t, "2 processes that the command left running were ended", leftRunning(&guestv1.Exited{LeftRunning: 2}, "id"))
	for n, words := range map[uint32]string{
		1: "1 process that the command left running lives on; `waggle attach id` follows it, `waggle kill id` ends it",
		2: "2 processes that the command left running live on; `waggle attach id` follows them, `waggle kill id` ends them",
	} {
		require.Equal(t, words, leftRunning(&guestv1.Exited{LeftRunning: n, Kept: true}, "id"))
	}
}

// TestWarn: a copy without what cannot be read has failed.
func TestWarn(t *testing.T) {
	t.Parallel()
	require.NoError(t, warn(1, 2, 0, nil))
	require.EqualError(t, warn(0, 0, 1, []string{"/a: EACCES"}), "all was copied but for 1 file or directory that cannot be read")
	require.EqualError(t, warnGuest(&guestv1.ArchiveSummary{Unreadable: 2}), "all was copied but for 2 files or directories that cannot be read")
}

// TestExecState: what lives on is not what has ended.
func TestExecState(t *testing.T) {
	t.Parallel()
	ended := &guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{ExitCode: 3}}
	require.Equal(t, "running", execState(&guestv1.ExecInfo{Processes: 1}))
	require.Equal(t, "exit 3", execState(&guestv1.ExecInfo{Exited: ended}))
	require.Equal(t, "exit 3, 2 left", execState(&guestv1.ExecInfo{MainExited: ended, Processes: 2}))
}

// TestExitCode: with run and exec, codes below 125 are the command's alone.
func TestExitCode(t *testing.T) {
	t.Parallel()
	running := t.Context()
	stopped, cancel := context.WithCancelCause(running)
	cancel(interrupted{syscall.SIGTERM})
	failed := errors.New("no machine")
	for name, tc := range map[string]struct {
		ctx     context.Context
		command string
		err     error
		code    int
		show    bool
	}{
		"success":                {running, "run", nil, 0, false},
		"code":                   {running, "exec", exitError(3), 3, false},
		"code and a failure":     {running, "run", errors.Join(exitError(3), failed), 3, true},
		"failure of run":         {running, "run", failed, 125, true},
		"failure of exec":        {running, "exec", failed, 125, true},
		"failure of another":     {running, "ps", failed, 1, true},
		"signal":                 {stopped, "run", failed, 143, false},
		"signal, with an answer": {stopped, "run", exitError(7), 7, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, show := exitCode(tc.ctx, tc.command, tc.err)
			require.Equal(t, tc.code, code)
			require.Equal(t, tc.show, show)
		})
	}
	require.Equal(t, exitRunFailure, usageCode([]string{"run", "--nope"}))
	require.Equal(t, exitUsage, usageCode([]string{"ps", "--nope"}))
	require.Equal(t, exitUsage, usageCode(nil))
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
	dir, err := runDirFlags{RunDir: filepath.Join(base, "a", "b")}.ownRunDir()
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	open := filepath.Join(base, "open")
	require.NoError(t, os.Mkdir(open, 0o755))
	_, err = runDirFlags{RunDir: open}.ownRunDir()
	require.ErrorContains(t, err, "chmod 700")
	link := filepath.Join(base, "link")
	require.NoError(t, os.Symlink(dir, link))
	_, err = runDirFlags{RunDir: link}.ownRunDir()
	require.ErrorContains(t, err, "not a directory")
	require.NoError(t, os.WriteFile(filepath.Join(base, "file"), nil, 0o600))
	_, err = runDirFlags{RunDir: filepath.Join(base, "file")}.ownRunDir()
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
