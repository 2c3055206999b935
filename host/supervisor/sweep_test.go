// SPDX-License-Identifier: Apache-2.0

package supervisor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/supervisor"
)

// sweepSoon sweeps with a deadline that only a lock held by others can pass.
func sweepSoon(t *testing.T, dir string) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	removed, _, err := supervisor.SweepScratch(ctx, dir)
	return removed, err
}

// TestSweepScratch looks at disks of which one belongs to a living supervisor, a
// process of its own with another run directory.
func TestSweepScratch(t *testing.T) {
	t.Parallel()
	base, run := shortDir(t), shortDir(t)
	scratch := filepath.Join(base, "scratch")
	_, _, err := supervisor.SweepScratch(t.Context(), scratch)
	require.NoError(t, err, "nothing to sweep")
	require.NoDirExists(t, scratch)

	require.NoError(t, os.Mkdir(scratch, 0o700))
	o := options(t, run, "supervise")
	o.Spec.RootDisk, o.Spec.ScratchPath, o.Spec.DiskMiB = filepath.Join(base, "root"), filepath.Join(scratch, "e1.ext4"), 32
	require.NoError(t, os.WriteFile(o.Spec.RootDisk, nil, 0o600))
	c, err := supervisor.Spawn(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.WaitRunning(t.Context(), "", nil))

	orphan := filepath.Join(scratch, "e2.ext4")
	require.NoError(t, os.WriteFile(orphan, make([]byte, 8192), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(scratch, "e3.ext4.lock"), nil, 0o600))
	for _, notOurs := range []string{"notes.txt", "A.ext4", ".x.ext4"} {
		require.NoError(t, os.WriteFile(filepath.Join(scratch, notOurs), nil, 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(scratch, "dir.ext4"), 0o700))
	require.NoError(t, os.Symlink(o.Spec.RootDisk, filepath.Join(scratch, "link.ext4")))
	removed, freed, err := supervisor.SweepScratch(t.Context(), scratch)
	require.NoError(t, err)
	require.Equal(t, []string{orphan}, removed)
	require.GreaterOrEqual(t, freed, int64(8192))
	require.FileExists(t, o.Spec.ScratchPath, "a machine lives on it")

	info, err := c.Info(t.Context())
	require.NoError(t, err)
	// Closed by the kernel with the process, whoever sees its end.
	require.NoError(t, syscall.Kill(int(info.GetPid()), syscall.SIGKILL))
	require.Eventually(t, func() bool {
		removed, err := sweepSoon(t, scratch)
		require.NoError(t, err)
		return len(removed) == 1 && removed[0] == o.Spec.ScratchPath
	}, 10*time.Second, 10*time.Millisecond)
	entries, err := os.ReadDir(scratch)
	require.NoError(t, err)
	require.Len(t, entries, 5, "what is no disk stays")
}

// TestSweepWhileDiskIsMade: a disk is safe from its first byte on, before its
// maker can hold it.
func TestSweepWhileDiskIsMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "e1.ext4")
	made, goOn, held := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var release func() error
	go func() {
		var err error
		release, err = supervisor.HoldScratch(t.Context(), path, func() error {
			defer func() { <-goOn }()
			defer close(made)
			return os.WriteFile(path, nil, 0o600)
		})
		held <- err
	}()
	<-made
	_, err := sweepSoon(t, dir)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.FileExists(t, path)
	close(goOn)
	require.NoError(t, <-held)
	removed, err := sweepSoon(t, dir)
	require.NoError(t, err)
	require.Empty(t, removed)
	require.NoError(t, release())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestSweepClaims sweeps a run directory all the time in which machines are
// started there: none is hit, and what a killed process left goes.
func TestSweepClaims(t *testing.T) {
	t.Parallel()
	run := shortDir(t)
	left := filepath.Join(run, ".new-1")
	require.NoError(t, os.MkdirAll(filepath.Join(left, "x"), 0o700))
	removed, err := supervisor.SweepClaims(t.Context(), run)
	require.NoError(t, err)
	require.Equal(t, []string{left}, removed)

	ctx, stop := context.WithCancel(t.Context())
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for ctx.Err() == nil {
			if removed, err := supervisor.SweepClaims(t.Context(), run); err != nil || len(removed) > 0 {
				t.Errorf("swept %v: %v", removed, err)
			}
		}
	})
	var machines sync.WaitGroup
	for i := range 8 {
		machines.Go(func() {
			o := options(t, run, "supervise")
			o.Spec.ID = fmt.Sprintf("e%d", i)
			c, err := supervisor.Spawn(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Stop(t.Context(), 0, "test"); err != nil {
				t.Error(err)
			}
		})
	}
	machines.Wait()
	stop()
	sweeper.Wait()
	_, err = supervisor.SweepClaims(t.Context(), filepath.Join(run, "missing"))
	require.NoError(t, err)
}

func TestSweepDead(t *testing.T) {
	t.Parallel()
	run := shortDir(t)
	write := func(id string, pid supervisor.Process, age time.Duration) {
		data, err := json.Marshal(supervisor.Record{
			Version: 1, Spec: supervisor.Spec{ID: id}, Supervisor: pid, Since: time.Now().Add(-age),
		})
		require.NoError(t, err)
		require.NoError(t, os.Mkdir(filepath.Join(run, id), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(run, id, "vm.json"), data, 0o600))
	}
	dead := supervisor.Process{PID: os.Getpid(), Started: 1}
	started, err := supervisor.StartTime(os.Getpid())
	require.NoError(t, err)
	write("old", dead, 25*time.Hour)
	write("new", dead, time.Hour)
	write("alive", supervisor.Process{PID: os.Getpid(), Started: started}, 25*time.Hour)
	require.NoError(t, os.Mkdir(filepath.Join(run, "unreadable"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(run, "unreadable", "vm.json"), []byte(`{"version": 99}`), 0o600))

	removed, err := supervisor.SweepDead(run, 24*time.Hour)
	require.NoError(t, err)
	require.Equal(t, []string{"old"}, removed)
	for _, id := range []string{"new", "alive", "unreadable"} {
		require.DirExists(t, filepath.Join(run, id))
	}
	require.NoDirExists(t, filepath.Join(run, "old"))
}
