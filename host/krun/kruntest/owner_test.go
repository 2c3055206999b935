// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/krun"
	"github.com/stacklok/waggle/host/krun/kruntest"
	"github.com/stacklok/waggle/host/vm"
)

// ownerEnv makes the test's binary a process that owns a machine: the place, in JSON.
const ownerEnv = "WAGGLE_TEST_KRUN_OWNER"

// owned is what such a process is told.
type owned struct {
	Config krun.Config
	Dir    string
	Disks  []vm.Disk
	// Refuse has the kernel refuse it all namespaces.
	Refuse bool
}

// own starts a machine, says its process id, and later that the guest is ready.
func own() int {
	if err := startOwned(os.Getenv(ownerEnv)); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func startOwned(text string) error {
	var o owned
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	if o.Refuse { // this namespace's own limit
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			return err
		}
	}
	o.Config.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	b, err := krun.New(o.Config)
	if err != nil {
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(o.Dir, "guest.sock"), Net: "unix"})
	if err != nil {
		return err
	}
	welcomed := make(chan error, 1)
	m, err := b.Start(context.Background(), vm.Spec{
		ID: "env-owned", Dir: o.Dir, CPUs: 1, MemoryMiB: 128, Disks: o.Disks, Guest: listener, Console: os.Stderr,
		Ready: func(conn net.Conn) {
			_, err := guest.Welcome(context.Background(), conn)
			welcomed <- err
		},
	})
	if err != nil {
		return err
	}
	fmt.Println(m.PID())
	select {
	case err = <-welcomed:
	case <-m.Done():
		err = m.Err()
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-m.Done()
	return m.Err()
}

// owner starts such a process and returns when it has a machine. What else it says
// is to be read from out.
func (p *place) owner(t *testing.T, refuse bool) (cmd *exec.Cmd, pid int, out *bufio.Reader, log *box) {
	t.Helper()
	text, err := json.Marshal(owned{Config: p.config(t), Dir: p.dir, Disks: []vm.Disk{{Path: p.writes}}, Refuse: refuse})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), machineLimit)
	t.Cleanup(cancel)
	log = &box{}
	cmd = exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), ownerEnv+"="+string(text))
	cmd.Stderr = log
	if refuse {
		id := 1000 // inside; not root, who would become somebody else
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE},
		}
	}
	pipe, w, err := os.Pipe() // Wait would close cmd's own
	require.NoError(t, err)
	t.Cleanup(func() { _ = pipe.Close() })
	cmd.Stdout = w
	err = cmd.Start()
	_ = w.Close()
	if refuse && err != nil {
		t.Skipf("this machine gives no user namespace to refuse others in: %v", err)
	}
	require.NoError(t, err)
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // ended already, unless the test fails
		<-ended
	})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	out = bufio.NewReader(pipe)
	line, err := out.ReadString('\n')
	require.NoError(t, err, "%s", log)
	_, err = fmt.Sscan(line, &pid)
	require.NoError(t, err, "%s: %s", line, log)
	return cmd, pid, out, log
}

// TestOwnerIsKilled: nothing of a machine outlives the process that owns it, by
// whatever that ends.
func TestOwnerIsKilled(t *testing.T) {
	t.Parallel()
	owner, pid, out, log := newPlace(t, kruntest.Options{}).owner(t, false)
	line, err := out.ReadString('\n')
	require.NoError(t, err, "%s", log)
	require.Equal(t, "ready\n", line, "%s", log)
	processes := append(descendants(t, pid), pid)
	require.Greater(t, len(processes), 1)
	require.NoError(t, owner.Process.Signal(unix.SIGKILL))
	requireGone(t, processes)
}

// TestWithoutNamespaces is a machine where the kernel gives none: Landlock keeps it
// from all other files. The double's guest would not get far with that.
func TestWithoutNamespaces(t *testing.T) {
	t.Parallel()
	p := newPlace(t, kruntest.Options{Orders: []string{"hang=krun_start_enter"}})
	owner, pid, _, log := p.owner(t, true)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "Landlock") }, machineLimit, 10*time.Millisecond)
	m := &started{place: p}
	require.Eventually(t, func() bool {
		return len(kruntest.Named(m.record(t), "krun_start_enter")) == 1
	}, machineLimit, 10*time.Millisecond, "%s", log)
	around := kruntest.Named(m.record(t), "surroundings")[0].Args
	require.Equal(t, "1", around["NoNewPrivs"])
	require.Equal(t, "0000000000000000", around["CapEff"])
	require.Len(t, around["env"], 3, "%v", around["env"])
	for _, path := range everyHostHas {
		require.Equal(t, float64(unix.EACCES), around[path], path)
	}
	require.NoError(t, owner.Process.Signal(unix.SIGKILL))
	requireGone(t, []int{pid})
}
