// SPDX-License-Identifier: Apache-2.0

package supervisor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/egress"
	"github.com/stacklok/waggle/host/supervisor"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// role makes this test's binary a supervisor of a backend that is no VMM.
const role = "WAGGLE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "supervise":
		supervise()
	case "die":
		fmt.Println("cannot go on")
		os.Exit(3)
	case "refuse":
		supervisor.OpenReport().Failed(errors.New("no kernel: run this"))
		os.Exit(1)
	default:
		os.Exit(m.Run())
	}
}

func supervise() {
	report := supervisor.OpenReport()
	spec, err := supervisor.ReadSpec(os.Stdin)
	if err == nil {
		cfg := supervisor.Config{Dir: os.Args[len(os.Args)-1], Backend: newBackend(), Listening: report.Listening}
		if spec.ScratchPath != "" {
			cfg.Disks, err = disk.Open(spec.RootDisk+".disks", disk.Limits{})
		}
		if err == nil {
			err = supervisor.Run(context.Background(), cfg, spec)
		}
	}
	if err != nil {
		report.Failed(err)
		os.Exit(1)
	}
}

func options(t *testing.T, runDir, as string) supervisor.SpawnOptions {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	return supervisor.SpawnOptions{
		Exe: exe, Env: []string{role + "=" + as}, RunDir: runDir,
		Spec: supervisor.Spec{ID: "e1", CPUs: 1, MemoryMiB: 64, Network: egress.None},
	}
}

func TestSpawn(t *testing.T) {
	t.Parallel()
	run := shortDir(t)
	c, err := supervisor.Spawn(t.Context(), options(t, run, "supervise"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.WaitRunning(t.Context(), "test", nil))

	info, err := c.Info(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, os.Getpid(), int(info.GetPid()))
	sid, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(info.GetPid()), 0, 0)
	require.Zero(t, errno)
	require.Equal(t, int(info.GetPid()), int(sid), "it has a session of its own")

	all, err := supervisor.List(run)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.True(t, all[0].Alive)
	require.Equal(t, "RUNNING", all[0].Record.Phase)
	require.ErrorIs(t, supervisor.RemoveDead(all[0].Dir), supervisor.ErrAlive)

	_, err = supervisor.Spawn(t.Context(), options(t, run, "supervise"))
	require.ErrorContains(t, err, "exists")
	require.DirExists(t, all[0].Dir, "the loser removes nothing of the winner")

	_, err = c.Stop(t.Context(), time.Second, "test")
	require.NoError(t, err)
	entries, err := os.ReadDir(run)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestKilled: what a killed supervisor leaves is recognised and removed.
func TestKilled(t *testing.T) {
	t.Parallel()
	run := shortDir(t)
	c, err := supervisor.Spawn(t.Context(), options(t, run, "supervise"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.WaitRunning(t.Context(), "", nil))
	info, err := c.Info(t.Context())
	require.NoError(t, err)
	// Following it tells of its end without asking again.
	err = c.Wait(t.Context(), "", func(*hostv1.State) bool {
		require.NoError(t, syscall.Kill(int(info.GetPid()), syscall.SIGKILL))
		return true
	})
	require.ErrorIs(t, err, supervisor.ErrGone)
	require.Eventually(t, func() bool {
		all, err := supervisor.List(run)
		return err == nil && len(all) == 1 && !all[0].Alive
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, supervisor.RemoveDead(c.Dir()))
	require.NoDirExists(t, c.Dir())
}

// TestEndOfSilent: a supervisor that stands still is killed for the end of its
// machine, and what it leaves is removed as after any other death.
func TestEndOfSilent(t *testing.T) {
	t.Parallel()
	run := shortDir(t)
	c, err := supervisor.Spawn(t.Context(), options(t, run, "supervise"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.WaitRunning(t.Context(), "", nil))
	info, err := c.Info(t.Context())
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(int(info.GetPid()), syscall.SIGSTOP))
	require.NoError(t, supervisor.Discard(t.Context(), c.Dir()))
	require.NoDirExists(t, c.Dir())
	all, err := supervisor.List(run)
	require.NoError(t, err)
	require.Empty(t, all)
}

func TestSpawnFails(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ as, want string }{
		{"die", "cannot go on"},
		{"refuse", "no kernel: run this"},
	} {
		t.Run(tc.as, func(t *testing.T) {
			t.Parallel()
			run := shortDir(t)
			_, err := supervisor.Spawn(t.Context(), options(t, run, tc.as))
			require.ErrorContains(t, err, tc.want)
			entries, err := os.ReadDir(run)
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
}

// TestRemoveDead kills a left-over VMM only if it is the one that was recorded.
func TestRemoveDead(t *testing.T) {
	t.Parallel()
	gone := exec.CommandContext(t.Context(), "true")
	require.NoError(t, gone.Run())
	for _, same := range []bool{true, false} {
		t.Run(fmt.Sprint(same), func(t *testing.T) {
			t.Parallel()
			vmm := exec.CommandContext(t.Context(), "sleep", "1000")
			require.NoError(t, vmm.Start())
			ended := make(chan error, 1)
			go func() { ended <- vmm.Wait() }()
			started, err := supervisor.StartTime(vmm.Process.Pid)
			require.NoError(t, err)
			if !same {
				started++
			}
			dir := filepath.Join(shortDir(t), "e1")
			require.NoError(t, os.Mkdir(dir, 0o700))
			scratch := filepath.Join(t.TempDir(), "scratch")
			require.NoError(t, os.WriteFile(scratch, nil, 0o600))
			record, err := json.Marshal(supervisor.Record{
				Version: 1, Spec: supervisor.Spec{ScratchPath: scratch},
				Supervisor: supervisor.Process{PID: gone.Process.Pid, Started: 1},
				VMM:        &supervisor.Process{PID: vmm.Process.Pid, Started: started},
			})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "vm.json"), record, 0o600))

			require.NoError(t, supervisor.RemoveDead(dir))
			require.NoDirExists(t, dir)
			require.NoFileExists(t, scratch)
			if same {
				require.ErrorContains(t, <-ended, "killed")
				return
			}
			select {
			case err := <-ended:
				t.Fatalf("a stranger was killed: %v", err)
			default:
			}
			require.NoError(t, vmm.Process.Kill())
			<-ended
		})
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	run := shortDir(t)
	_, err := supervisor.Find(run, "a")
	require.ErrorIs(t, err, supervisor.ErrNone)
	for _, id := range []string{"abc1", "abc2", "b", ".new-1"} {
		require.NoError(t, os.Mkdir(filepath.Join(run, id), 0o700))
	}
	for _, tc := range []struct{ prefix, id, err string }{
		{"abc1", "abc1", ""},
		{"b", "b", ""},
		{"abc", "", "fits several environments: abc1, abc2"},
		{"x", "", "there is abc1, abc2, b"},
		{"", "", "no environment"},
	} {
		l, err := supervisor.Find(run, tc.prefix)
		if tc.err != "" {
			require.ErrorContains(t, err, tc.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tc.id, l.ID)
	}
}
