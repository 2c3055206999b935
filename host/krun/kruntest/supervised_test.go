// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/egress"
	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/krun"
	"github.com/stacklok/waggle/host/krun/kruntest"
	"github.com/stacklok/waggle/host/supervisor"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// supervised is a supervisor in the test's process, with a machine of libkrun.
type supervised struct {
	*place
	client *supervisor.Client
	ended  chan error
	spec   supervisor.Spec
}

func supervise(t *testing.T, o kruntest.Options, network egress.Mode) *supervised {
	t.Helper()
	p := newPlace(t, o)
	backend, err := krun.New(p.config(t))
	require.NoError(t, err)
	disks, err := disk.Open(filepath.Join(p.dir, "disks"), disk.Limits{})
	require.NoError(t, err)
	x := &supervised{place: p, ended: make(chan error, 1), spec: supervisor.Spec{
		ID: "env-krun", CPUs: 1, MemoryMiB: 128, DiskMiB: 32, Network: network, RootDisk: p.image,
		ScratchPath: filepath.Join(p.dir, "env-krun.ext4"), Env: map[string]string{"A": "b"}, Cwd: "/tmp",
	}}
	dir := filepath.Join(p.dir, "e")
	require.NoError(t, os.Mkdir(dir, 0o700))
	listening, ctx := make(chan struct{}), context.WithoutCancel(t.Context())
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.ended <- supervisor.Run(ctx, supervisor.Config{
			Dir: dir, Backend: backend, Accelerator: "kvm", Disks: disks, Listening: func() { close(listening) },
		}, x.spec)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	<-listening
	x.client, err = supervisor.Attach(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.client.Close() })
	return x
}

// TestSupervised is the whole way: supervisor, waggle-krun in its jail, libkrun,
// ready, a command, the end.
func TestSupervised(t *testing.T) {
	t.Parallel()
	x := supervise(t, kruntest.Options{}, egress.Open)
	ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
	defer cancel()
	require.NoError(t, x.client.WaitRunning(ctx, "", nil))
	info, err := x.client.Info(ctx)
	require.NoError(t, err)
	pid := int(info.GetVmmPid())
	processes := append(descendants(t, pid), pid)
	require.Greater(t, len(processes), 1)

	var out bytes.Buffer
	exited, err := x.client.Guest().Run(ctx, guest.Exec{
		Start: &guestv1.Start{
			ExecId: "one", Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{kruntest.Program, "say", "hello"}}},
		},
		Stdout: &out,
	})
	require.NoError(t, err)
	require.Equal(t, "hello\n", out.String())
	require.Equal(t, int32(0), exited.GetExitCode())

	record := kruntest.Record(t, filepath.Join(x.client.Dir(), "krun", kruntest.RecordFile))
	require.Len(t, kruntest.Named(record, "krun_add_net_unixstream"), 1)
	for _, never := range []string{
		"krun_set_root", "krun_add_virtiofs", "krun_add_virtiofs2", "krun_set_mapped_volumes", "krun_add_net_tap",
		"krun_add_net_unixgram", "krun_set_port_map", "krun_set_env",
	} {
		require.Empty(t, kruntest.Named(record, never), never)
	}
	state, err := x.client.Stop(ctx, time.Second, "enough")
	require.NoError(t, err)
	require.Equal(t, hostv1.EndCause_END_CAUSE_STOPPED, state.GetCause(), "%v", state)
	require.NoError(t, <-x.ended)
	requireGone(t, processes)
	require.NoDirExists(t, x.client.Dir())
	require.NoFileExists(t, x.spec.ScratchPath)
}

// TestSupervisedWithoutNetwork has no device for one.
func TestSupervisedWithoutNetwork(t *testing.T) {
	t.Parallel()
	x := supervise(t, kruntest.Options{}, egress.None)
	ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
	defer cancel()
	require.NoError(t, x.client.WaitRunning(ctx, "", nil))
	record := kruntest.Record(t, filepath.Join(x.client.Dir(), "krun", kruntest.RecordFile))
	require.NotEmpty(t, kruntest.Named(record, "krun_start_enter"))
	require.Empty(t, kruntest.Named(record, "krun_add_net_unixstream"))
}

// TestSupervisedFailures are the words of whoever waits for the machine, `waggle run`
// among them.
func TestSupervisedFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options kruntest.Options
		words   []string
	}{
		"call": {
			kruntest.Options{Orders: []string{"fail=krun_add_disk2:13"}},
			[]string{"krun_add_disk2: EACCES (permission denied): the disk boot", "raw image"},
		},
		"enter": {
			kruntest.Options{Orders: []string{"fail=krun_start_enter:22"}},
			[]string{"krun_start_enter: EINVAL (invalid argument): the machine", "waggle doctor"},
		},
		"panic": {kruntest.Options{Orders: []string{"boot=panic"}}, []string{"the guest ended by itself", "console"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := supervise(t, c.options, egress.None)
			ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
			defer cancel()
			err := x.client.WaitRunning(ctx, "", nil)
			for _, w := range c.words {
				require.ErrorContains(t, err, w)
			}
			require.ErrorContains(t, <-x.ended, c.words[0])
			require.NoDirExists(t, filepath.Join(x.client.Dir(), "krun"))
			require.NoFileExists(t, x.spec.ScratchPath)
		})
	}
}

// TestVMMIsKilled: the supervisor says so, and goes.
func TestVMMIsKilled(t *testing.T) {
	t.Parallel()
	x := supervise(t, kruntest.Options{}, egress.None)
	ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
	defer cancel()
	require.NoError(t, x.client.WaitRunning(ctx, "", nil))
	info, err := x.client.Info(ctx)
	require.NoError(t, err)
	pid := int(info.GetVmmPid())
	processes := append(descendants(t, pid), pid)
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	require.ErrorContains(t, <-x.ended, "killed")
	requireGone(t, processes)
}
