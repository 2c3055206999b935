// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vmm"
)

// surroundings are what testdata/vmm sees.
type surroundings struct {
	Files, Mounts, Interfaces, Processes, Env []string
	Status                                    map[string]string
	Descriptors                               []string
	Umask                                     int
	Core                                      uint64
}

func (f *fixture) look(t *testing.T) surroundings {
	t.Helper()
	var s surroundings
	require.NoError(t, json.Unmarshal([]byte(f.ask(t, "look")), &s))
	return s
}

// try returns what came of opening each path for reading and writing.
func (f *fixture) try(t *testing.T, paths ...string) map[string]string {
	t.Helper()
	text, err := json.Marshal(paths)
	require.NoError(t, err)
	var got map[string]string
	require.NoError(t, json.Unmarshal([]byte(f.ask(t, "try "+string(text))), &got))
	return got
}

func (f *fixture) confinement(t *testing.T) spec.Machine {
	t.Helper()
	var m spec.Machine
	require.NoError(t, json.Unmarshal([]byte(f.ask(t, "machine")), &m))
	return m
}

// noPower holds for every way to confine: no capability in any set, no way to one,
// no signs of the host in the environment, no descriptor but its own.
func noPower(t *testing.T, f *fixture, m vm.Machine, s surroundings) {
	t.Helper()
	sets := []string{"CapInh", "CapPrm", "CapEff", "CapAmb"}
	if os.Geteuid() == 0 || f.confinement(t).Confine == spec.Namespaces {
		sets = append(sets, "CapBnd") // an ordinary user may not touch its own
	}
	for _, set := range sets {
		require.Equal(t, "0000000000000000", s.Status[set], set)
	}
	require.Equal(t, "1", s.Status["NoNewPrivs"])
	require.Equal(t, 0o77, s.Umask)
	require.Zero(t, s.Core, "a core would hold the guest's memory")
	require.Len(t, s.Env, 3)
	for _, name := range []string{"LD_LIBRARY_PATH=", "TMPDIR=", "GOTRACEBACK=none"} {
		require.Condition(t, func() bool {
			return slices.ContainsFunc(s.Env, func(v string) bool { return strings.HasPrefix(v, name) })
		}, name)
	}
	require.NotContains(t, f.ask(t, "become"), "<nil>", "setuid, mount and mknod")
	uid := s.Status["Uid"]
	if os.Geteuid() == 0 {
		require.NotContains(t, uid, " 0")
		require.False(t, strings.HasPrefix(uid, "0"), uid)
		require.Empty(t, s.Status["Groups"])
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.PID()))
		require.NoError(t, err)
		require.Contains(t, string(status), "Uid:\t"+strings.ReplaceAll(uid, " ", "\t")+"\n", "the host sees the same user")
	} else {
		require.Equal(t, strings.TrimSpace(strings.Repeat(fmt.Sprint(os.Geteuid(), " "), 4)), uid)
	}
}

// secrets are files that a machine has no business with: the host's, another
// machine's, and its own owner's.
func secrets(t *testing.T, f *fixture) []string {
	t.Helper()
	other := filepath.Join(f.dir, "other")
	require.NoError(t, os.WriteFile(other, nil, 0o666))
	require.NoError(t, os.Chmod(f.dir, 0o755))
	require.NoError(t, os.Chmod(other, 0o666)) // not kept by its mode alone
	own := filepath.Join(f.spec.Dir, "supervisor.sock")
	require.NoError(t, os.WriteFile(own, nil, 0o666))
	return []string{"/etc/passwd", "/etc/hostname", "/usr/bin/env", "/root", "/home", "/dev/zero", "/sys/kernel", f.dir, other, own,
		"/proc/1/root/etc/passwd", "/proc/self/root/../etc/passwd", "/proc/self/cwd/../../etc/passwd"}
}

// TestJail proves from inside what a VMM in namespaces can reach.
func TestJail(t *testing.T) {
	f := newFixture(t)
	hidden := secrets(t, f)
	require.NoError(t, os.Chmod(filepath.Join(f.dir, "image"), 0o666)) // only the mount keeps it
	m := f.start(t)
	if c := f.confinement(t); c.Confine != spec.Namespaces {
		t.Skip("no namespaces here: ", c.Reason)
	}
	s := f.look(t)
	noPower(t, f, m, s)

	require.ElementsMatch(t, []string{
		"/", "/dev", "/dev/kvm", "/dev/null", "/dev/urandom", "/disks", "/disks/boot", "/disks/image", "/disks/scratch",
		"/lib", "/tmp", "/vsock", "/vsock/console", "/vsock/guestd.sock", "/vsock/ready.sock", "/waggle-krun",
	}, slices.DeleteFunc(s.Files, func(path string) bool { return strings.HasPrefix(path, "/lib/") }))
	require.Equal(t, []string{"lo false"}, s.Interfaces)
	require.Equal(t, "1", s.Status["Pid"])
	require.Subset(t, []string{"1", "self", "thread-self"}, slices.DeleteFunc(s.Processes, func(name string) bool {
		return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-_.") == "" && name != "self" && name != "thread-self" // before Linux 5.8
	}))
	for path, came := range f.try(t, hidden...) {
		require.Equal(t, "ENOENT ENOENT", came, path)
	}
	require.Equal(t, map[string]string{
		"/waggle-krun": "yes EACCES", "/lib/libm.so.6": "yes EACCES", "/disks/boot": "yes EACCES", "/disks/image": "yes EROFS",
		"/disks/scratch": "yes yes", "/dev/null": "yes yes", "/dev/kvm": "yes yes", "/": "yes EISDIR",
		"/vsock/console": "yes yes", "/proc/sys/kernel/hostname": "ENOENT ENOENT",
	}, f.try(t, "/waggle-krun", "/lib/libm.so.6", "/disks/boot", "/disks/image", "/disks/scratch", "/dev/null", "/dev/kvm",
		"/", "/vsock/console", "/proc/sys/kernel/hostname"))
	for _, mount := range s.Mounts {
		path, options, _ := strings.Cut(mount, " ")
		have := strings.Split(options, ",")
		require.Contains(t, have, "nosuid", mount)
		writable := path == "/tmp" || path == "/vsock" || path == "/disks/scratch" || strings.HasPrefix(path, "/dev/")
		require.Equal(t, !writable, slices.Contains(have, "ro"), mount)
		code := path == "/waggle-krun" || strings.HasPrefix(path, "/lib")
		require.Equal(t, !code, slices.Contains(have, "noexec"), mount)
		if !strings.HasPrefix(path, "/dev/") {
			require.Contains(t, have, "nodev", mount)
		}
	}
	for _, to := range s.Descriptors {
		require.False(t, strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "/vsock/") && !strings.HasPrefix(to, "/dev/null") &&
			!strings.HasPrefix(to, "/proc/") && !strings.HasPrefix(to, "/memfd:"), "an open descriptor to %s", to)
	}
	if os.Geteuid() == 0 {
		image, err := os.Stat(filepath.Join(f.dir, "image"))
		require.NoError(t, err)
		require.Zero(t, image.Sys().(*syscall.Stat_t).Uid, "only the scratch disk changes hands")
	}
}

// TestLandlock proves the same of what there is where namespaces are refused.
func TestLandlock(t *testing.T) {
	if v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 || v < 1 {
		t.Skipf("this kernel has no Landlock: %v", errno)
	}
	for _, tt := range []struct {
		name, reason string
	}{
		{"no namespaces", "start waggle-krun: operation not permitted"},
		{"no mounts", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.reason == "" && os.Geteuid() == 0 {
				t.Skip("nobody refuses mounts to root")
			}
			f := newFixture(t)
			hidden := secrets(t, f)
			f.backend.launcher = func(b *Backend, m spec.Machine, nic *vm.NIC) (child, error) {
				if tt.reason != "" {
					m.Confine, m.Reason = spec.Landlock, tt.reason
				}
				return b.spawn(m, nic, syscall.SysProcAttr{})
			}
			m := f.start(t)
			c := f.confinement(t)
			require.Equal(t, spec.Landlock, c.Confine)
			require.Contains(t, c.Reason, syscall.EPERM.Error())
			noPower(t, f, m, f.look(t))
			for path, came := range f.try(t, hidden...) {
				require.NotContains(t, came, "yes", path)
			}
			require.Equal(t, "hello", f.ask(t, "echo hello"))
			require.Equal(t, map[string]string{
				c.Disks[0].Path: "yes EACCES", c.Disks[1].Path: "yes EACCES", c.Disks[2].Path: "yes yes",
				c.Runner: "yes EACCES", c.KVM: "yes yes",
			}, f.try(t, c.Disks[0].Path, c.Disks[1].Path, c.Disks[2].Path, c.Runner, c.KVM))
			require.NoError(t, m.Stop(t.Context()))
			require.NoDirExists(t, filepath.Join(f.spec.Dir, "krun"))

			failing := newFixture(t)
			failing.backend.launcher, failing.spec.MemoryMiB = f.backend.launcher, 1
			_, err := failing.backend.Start(t.Context(), failing.spec)
			require.ErrorContains(t, err, "(invalid argument): at "+filepath.Join(failing.dir, "image")+"; a test", "the host's path")
		})
	}
}

// TestOrdinaryUser runs the tests of the jail again as nobody, when this is root.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the other tests are an ordinary user's already")
	}
	runner, err := builtRunner()
	require.NoError(t, err)
	dir := shortDir(t)
	require.NoError(t, os.Chmod(dir, 0o755))
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	program := filepath.Join(dir, "test")
	require.NoError(t, os.WriteFile(program, self, 0o755))
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.run", "^(TestJail|TestLandlock|TestMachine)$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), runnerEnv+"="+runner, "TMPDIR=/tmp", "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestMachine")
	t.Logf("%s", out)
	if !strings.Contains(string(out), "--- PASS: TestJail") {
		t.Skipf("an ordinary user has no namespaces here")
	}
}

// TestDiesWithItsOwner: the kernel ends the VMM with the thread that started it,
// though its user and its namespaces have changed since.
func TestDiesWithItsOwner(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(ownerEnv); dir != "" {
		f := newFixture(t)
		m := f.start(t)
		fmt.Println(m.PID())
		<-m.Done()
		return
	}
	runner, err := builtRunner()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestDiesWithItsOwner$")
	// What it makes, it does not live to remove.
	cmd.Env = append(os.Environ(), ownerEnv+"=1", runnerEnv+"="+runner, "TMPDIR="+shortDir(t))
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var pid int
	_, err = fmt.Fscan(stdout, &pid)
	require.NoError(t, err)
	process, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(process)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, 2000)
	require.NoError(t, err)
	require.Equal(t, 1, n, "the VMM outlived its owner")
}

const ownerEnv = "WAGGLE_TEST_KRUN_OWNER"

// TestDial: what the VMM does to its socket leads nowhere else.
func TestDial(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	elsewhere, err := net.Listen("unix", filepath.Join(dir, "elsewhere"))
	require.NoError(t, err)
	defer elsewhere.Close()
	d, err := makeDirectory(dir, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.remove()) }()
	socket := filepath.Join(d.path, spec.GuestSocket)

	_, err = d.dial(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.Symlink(elsewhere.Addr().String(), socket))
	_, err = d.dial(t.Context())
	require.ErrorIs(t, err, errNotSocket, "a link is seen for what it is, and not followed")
	require.NoError(t, os.Remove(socket))
	require.NoError(t, os.WriteFile(socket, nil, 0o600))
	_, err = d.dial(t.Context())
	require.ErrorIs(t, err, errNotSocket)
	require.NoError(t, os.Remove(socket))

	// A queue of libkrun's size that nobody serves, and then somebody does.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: socket}))
	require.NoError(t, unix.Listen(fd, 0))
	first, err := d.dial(t.Context())
	require.NoError(t, err)
	defer first.Close()
	dialled := make(chan error, 1)
	go func() {
		conn, err := d.dial(t.Context())
		if err == nil {
			_ = conn.Close()
		}
		dialled <- err
	}()
	select {
	case err := <-dialled:
		require.FailNow(t, "dialled into a full queue", "%v", err)
	case <-time.After(20 * dialRetry):
	}
	accepted, _, err := unix.Accept(fd)
	require.NoError(t, err)
	defer unix.Close(accepted)
	require.NoError(t, <-dialled)
}

// TestTakenOver: a VMM that puts a link in its socket's place is not followed.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start(t)
	other, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(f.dir, "o")})
	require.NoError(t, err)
	defer other.Close()
	require.Equal(t, "<nil> <nil>", f.ask(t, "swap "+other.Addr().String()))
	require.Empty(t, f.ask(t, "echo hello"), "cut off")
	require.NoError(t, other.SetDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = other.Accept()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "somebody was led to another socket")
}

// TestKVMForRootAlone: a device that the machine's user could not open is refused
// in words, before anything starts.
func TestKVMForRootAlone(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root starts machines as another user")
	}
	f := newFixture(t)
	f.backend.kvm = filepath.Join(f.dir, "guestd")
	require.NoError(t, os.Chmod(f.backend.kvm, 0o600))
	_, err := f.backend.Start(t.Context(), f.spec)
	require.ErrorContains(t, err, "is for root alone and waggle-krun does not run as root: `chgrp kvm")

	f = newFixture(t)
	f.backend.cfg.User = &vmm.User{UID: 12345, GID: 12345}
	require.NoError(t, os.Chmod(filepath.Join(f.dir, "image"), 0o400))
	_, err = f.backend.Start(t.Context(), f.spec)
	require.ErrorContains(t, err, "disk image at "+filepath.Join(f.dir, "image")+": the VMM runs as uid 12345, which may not use it (mode 0400)")
}
