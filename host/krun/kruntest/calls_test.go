// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/kruntest"
	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/vm"
)

// args are those of a call, as the record has them.
type args = map[string]any

// expected are the calls of a machine with an image, a scratch disk and no network,
// in order and with all arguments.
func expected() []struct {
	call string
	args args
} {
	return []struct {
		call string
		args args
	}{
		{"krun_has_feature", args{"feature": 0.0}}, // NET
		{"krun_has_feature", args{"feature": 1.0}}, // BLK
		{"krun_has_feature", args{"feature": 5.0}}, // EFI
		{"krun_has_feature", args{"feature": 6.0}}, // TEE
		{"krun_init_log", args{"fd": 2.0, "level": 2.0, "style": 2.0, "options": 1.0}},
		{"krun_create_ctx", args{}},
		{"krun_set_vm_config", args{"ctx": 0.0, "vcpus": 2.0, "ram_mib": 256.0}},
		{"krun_disable_implicit_vsock", args{"ctx": 0.0}},
		{"krun_add_vsock", args{"ctx": 0.0, "tsi": 0.0}},
		{"krun_add_vsock_port2", args{"ctx": 0.0, "port": 1024.0, "path": "/vsock/guestd.sock", "listen": true}},
		{"krun_add_vsock_port2", args{"ctx": 0.0, "port": 1025.0, "path": "/vsock/ready.sock", "listen": false}},
		{"krun_add_disk2", args{"ctx": 0.0, "id": "boot", "path": "/disks/boot", "format": 0.0, "ro": true}},
		{"krun_add_disk2", args{"ctx": 0.0, "id": "image", "path": "/disks/image", "format": 0.0, "ro": true}},
		{"krun_add_disk2", args{"ctx": 0.0, "id": "scratch", "path": "/disks/scratch", "format": 0.0, "ro": false}},
		{"krun_set_root_disk_remount", args{"ctx": 0.0, "device": "/dev/vda", "fstype": "ext4", "options": "ro"}},
		{"krun_set_exec", args{"ctx": 0.0, "path": "/lib/waggle/guestd", "argv": []any{}, "envp": []any{"KRUN_INIT_PID1=1"}}},
		{"krun_set_console_output", args{"ctx": 0.0, "path": "/vsock/console"}},
		{"krun_start_enter", args{"ctx": 0.0}},
	}
}

// TestCalls holds every call to its arguments, and all of them to one thread. What
// is not in the list is not called: no krun_set_root, no krun_add_virtiofs, and
// without a network no device for one.
func TestCalls(t *testing.T) {
	t.Parallel()
	m, err := newPlace(t, kruntest.Options{}).start(t, nil)
	require.NoError(t, err)
	m.welcome(t)
	var want, have []string
	record := m.record(t)
	for _, e := range expected() {
		want = append(want, e.call)
	}
	have = kruntest.Calls(record)
	require.Equal(t, want, have)
	at := 0
	for _, e := range record {
		if e.Call == "" {
			continue
		}
		require.Equal(t, expected()[at].args, e.Args, "%d: %s", at, e.Call)
		require.Equal(t, record[0].TID, e.TID, "%s: one thread", e.Call)
		require.Equal(t, e.PID, e.TID, "%s: the process's first", e.Call)
		at++
	}
	require.Nil(t, kruntest.Named(record, "krun_start_enter")[0].Result, "it does not return")
}

// TestDisksAreOpened looks at what the disks can be opened for from inside.
func TestDisksAreOpened(t *testing.T) {
	t.Parallel()
	m, err := newPlace(t, kruntest.Options{}).start(t, nil)
	require.NoError(t, err)
	m.welcome(t)
	opened := map[string]args{}
	for _, e := range kruntest.Named(m.record(t), "open disk") {
		opened[e.Args["path"].(string)] = e.Args
	}
	for path, ro := range map[string]bool{"/disks/boot": true, "/disks/image": true, "/disks/scratch": false} {
		require.Equal(t, args{"path": path, "ro": ro, "writable": !ro, "errno": 0.0}, opened[path])
	}
}

// TestNIC hands the network's connection over, and keeps no copy of it.
func TestNIC(t *testing.T) {
	t.Parallel()
	ours, network := socketpair(t)
	m, err := newPlace(t, kruntest.Options{}).start(t, func(s *vm.Spec) {
		s.NIC = &vm.NIC{MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 0xfe}, Conn: ours}
	})
	require.NoError(t, err)
	m.welcome(t)
	record := m.record(t)
	added := kruntest.Named(record, "krun_add_net_unixstream")
	require.Len(t, added, 1)
	require.Equal(t, args{
		"ctx": 0.0, "path": nil, "fd": added[0].Args["fd"], "mac": "52:54:00:01:02:fe", "features": 0.0, "flags": 0.0,
	}, added[0].Args)
	require.Positive(t, added[0].Args["fd"])
	require.Len(t, kruntest.Calls(record), len(expected())+1, "and nothing else")

	require.NoError(t, m.Stop(t.Context()))
	_, err = network.Read(make([]byte, 1))
	require.Error(t, err, "with the machine its end is closed")
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// everyHostHas are what the double tries to open.
var everyHostHas = []string{"/etc/passwd", "/usr", "/dev/zero"}

// TestInside is what a guest that has taken the VMM over finds.
func TestInside(t *testing.T) {
	t.Parallel()
	left, err := unix.Dup(0) // as a shell leaves some to all that it starts
	require.NoError(t, err)
	defer unix.Close(left)
	m, err := newPlace(t, kruntest.Options{}).start(t, nil)
	require.NoError(t, err)
	m.welcome(t)
	events := kruntest.Named(m.record(t), "surroundings")
	require.Len(t, events, 1)
	around := events[0].Args
	require.ElementsMatch(t, []any{"LD_LIBRARY_PATH=/lib", "TMPDIR=/tmp", "GOTRACEBACK=none"}, around["env"])
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		require.Equal(t, "0000000000000000", around[set], set)
	}
	require.Equal(t, "1", around["NoNewPrivs"])
	require.Equal(t, "0077", around["Umask"])
	require.NotContains(t, strings.Fields(around["Uid"].(string)), "0", "nobody is root")
	for _, path := range everyHostHas {
		require.Equal(t, float64(unix.ENOENT), around[path], path)
	}

	var files []string
	for _, f := range around["files"].([]any) {
		files = append(files, f.(string))
	}
	for _, f := range []string{
		"/waggle-krun", "/dev/kvm", "/dev/null", "/dev/urandom", "/disks/boot", "/disks/image", "/disks/scratch",
		"/lib/" + kruntest.Library, "/lib/" + kruntest.Firmware, "/lib/libc.so.6", "/lib/libgcc_s.so.1",
		"/vsock/ready.sock", "/vsock/console", "/proc", "/tmp",
	} {
		require.Contains(t, files, f)
	}
	for _, f := range []string{"/etc", "/usr", "/home", "/root", "/sys", "/run", "/bin"} {
		require.NotContains(t, files, f)
	}
	for _, f := range around["fds"].([]any) {
		fd, target, _ := strings.Cut(f.(string), " ")
		if n, err := strconv.Atoi(fd); err == nil && n <= spec.AliveFD {
			continue // what it was started with
		}
		require.Contains(t, []string{"/vsock/" + kruntest.RecordFile, "anon_inode:[eventpoll]", "anon_inode:[eventfd]"}, target, f)
	}
}

// TestRefusedCalls: what a VMM never asks the kernel for, it does not get: not in the
// thread that libkrun has, and not in any other. The same calls have other answers
// without the filter.
func TestRefusedCalls(t *testing.T) {
	t.Parallel()
	m, err := newPlace(t, kruntest.Options{}).start(t, nil)
	require.NoError(t, err)
	m.welcome(t)
	record := m.record(t)
	want := args{"clone3": float64(unix.ENOSYS), "io_uring_setup": float64(unix.ENOSYS)}
	for _, call := range []string{
		"ptrace", "process_vm_readv", "mount", "unshare", "setns", "add_key", "keyctl", "name_to_handle_at", "perf_event_open", "userfaultfd",
	} {
		want[call] = float64(unix.EPERM)
	}
	refused := kruntest.Named(record, "refused")
	require.Len(t, refused, 1)
	require.Equal(t, want, refused[0].Args)
	require.Equal(t, "2", kruntest.Named(record, "surroundings")[0].Args["Seccomp"])
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", m.PID()))
	require.NoError(t, err)
	require.Greater(t, len(tasks), 1)
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that has ended meanwhile
		}
		require.NoError(t, err)
		require.Contains(t, string(status), "\nSeccomp:\t2\n", task)
	}
}

// TestRuns is a machine's life: it is ready, runs commands, and ends on request.
func TestRuns(t *testing.T) {
	t.Parallel()
	p := newPlace(t, kruntest.Options{})
	m, err := p.start(t, nil)
	require.NoError(t, err)
	peer := m.welcome(t)
	require.False(t, peer.Ready.GetAgent().GetOwnsMachine())
	out, exited := m.run(t, "say", "hello")
	require.Equal(t, "hello\n", out)
	require.Equal(t, int32(0), exited.GetExitCode())
	_, exited = m.run(t, "exit", "7")
	require.Equal(t, int32(7), exited.GetExitCode())
	out, exited = m.run(t, "flood", "600000") // the jail's /tmp has 1 MiB, where guestd keeps it
	require.Greater(t, len(out), 600000, "more than one socket holds: %v", exited)
	_, exited = m.run(t, "show", "/etc/passwd")
	require.Equal(t, int32(1), exited.GetExitCode(), "there are no other files")
	require.Contains(t, m.console.String(), "booting")

	processes := append(descendants(t, m.PID()), m.PID())
	require.Greater(t, len(processes), 1, "guestd is one of them")
	require.NoError(t, m.Stop(t.Context()))
	require.ErrorIs(t, m.Err(), vm.ErrStopped)
	requireGone(t, processes)
	p.requireNothingLeft(t)
}

// TestWelcomeArrives: libkrun drops what the host wrote when that closes, so nobody
// closes a stream of the guest's before the guest does.
func TestWelcomeArrives(t *testing.T) {
	t.Parallel()
	m, err := newPlace(t, kruntest.Options{Orders: []string{"late=500"}}).start(t, nil)
	require.NoError(t, err)
	m.welcome(t)
	require.Eventually(t, func() bool {
		return strings.Contains(m.console.String(), "msg=ready")
	}, 10*time.Second, 10*time.Millisecond, "guestd has not read its welcome: %s", m.console)
}
