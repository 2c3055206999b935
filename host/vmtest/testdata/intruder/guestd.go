// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guestdUID is identity.UID of guestd.
const guestdUID = 0x77616767

// guestdTries reach for guestd, which is process 1.
var guestdTries = []try{
	{"kill 0", func() error { return unix.Kill(1, 0) }},
	{"kill SIGTERM", func() error { return unix.Kill(1, unix.SIGTERM) }},
	{"tgkill", func() error { return unix.Tgkill(1, guestdThread(), unix.SIGSEGV) }},
	{"tkill", func() error {
		return call(unix.SYS_TKILL, uintptr(guestdThread()), uintptr(unix.SIGSEGV))
	}},
	{"kill of a thread", func() error { return unix.Kill(guestdThread(), unix.SIGTERM) }},
	{"rt_sigqueueinfo", func() error {
		info := [128]byte{0: byte(unix.SIGSEGV), 8: 0xff, 9: 0xff, 10: 0xff, 11: 0xff} // si_code SI_QUEUE
		return call(unix.SYS_RT_SIGQUEUEINFO, 1, uintptr(unix.SIGSEGV), uintptr(unsafe.Pointer(&info)))
	}},
	{"pidfd_send_signal", func() error {
		return withPidfd(func(fd int) error { return unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0) })
	}},
	{"pidfd_getfd", func() error {
		return withPidfd(func(fd int) error { _, err := unix.PidfdGetfd(fd, 0, 0); return err })
	}},
	{"setuid to its user", func() error { return call(unix.SYS_SETUID, guestdUID) }},
	{"setuid with high bits set", func() error { return call(unix.SYS_SETUID, 1<<32|guestdUID) }},
	{"setresuid", func() error { return call(unix.SYS_SETRESUID, ^uintptr(0), guestdUID, ^uintptr(0)) }},
	{"ptrace of guestd", func() error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1, 0, 0) }},
	{"read /proc/1/mem", func() error { return opened("/proc/1/mem", unix.O_RDONLY) }},
	{"write /proc/1/mem", func() error { return opened("/proc/1/mem", unix.O_RDWR) }},
	{"process_vm_readv", func() error {
		var b [8]byte
		local := []unix.Iovec{{Base: &b[0], Len: 8}}
		_, err := unix.ProcessVMReadv(1, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
		return err
	}},
	{"/proc/1/environ", func() error { return opened("/proc/1/environ", unix.O_RDONLY) }},
	{"names in /proc/1/fd", func() error { _, err := os.ReadDir("/proc/1/fd"); return err }},
	{"/proc/1/root", func() error { _, err := os.Stat("/proc/1/root/run"); return err }},
	{"prlimit of guestd", func() error {
		return unix.Prlimit(1, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: 1}, nil)
	}},
	{"/run/waggle/scratch", func() error { _, err := os.ReadDir("/run/waggle/scratch"); return err }},
	{"rmdir /run/waggle", func() error { return unix.Rmdir("/run/waggle") }},
	{"memory.min of guestd", func() error { return written("/sys/fs/cgroup/waggle/agent/memory.min", "0") }},
	{"cgroup.procs of guestd", func() error {
		return written("/sys/fs/cgroup/waggle/agent/cgroup.procs", strconv.Itoa(os.Getpid()))
	}},
	{"cgroup.freeze of all commands", func() error { return written("/sys/fs/cgroup/waggle/exec/cgroup.freeze", "1") }},
	{"memory.max of all commands", func() error { return written("/sys/fs/cgroup/waggle/exec/memory.max", "max") }},
	{"mkdir in a control group", func() error { return unix.Mkdir("/sys/fs/cgroup/waggle/exec/mine", 0o755) }},
}

// guestdThread is a thread of guestd other than the first.
func guestdThread() int {
	entries, err := os.ReadDir("/proc/1/task")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil && tid != 1 {
			return tid
		}
	}
	return 0
}

func withPidfd(do func(fd int) error) error {
	fd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd)
}

// limitTries would give a command more than its share.
var limitTries = []try{
	{"/proc/self/oom_score_adj below 0", func() error { return written("/proc/self/oom_score_adj", "-1") }},
	{"setpriority -5", func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) }},
	{"sched_setscheduler", func() error {
		priority := int32(1)
		return call(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&priority)))
	}},
	{"prlimit NOFILE above the limit", func() error {
		return unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 21, Max: 1 << 21}, nil)
	}},
}

// fileTries are settings of the kernel that are files.
var fileTries = []try{
	{"kernel.core_pattern", func() error { return written("/proc/sys/kernel/core_pattern", "|/tmp/x") }},
	{"kernel.modprobe", func() error { return written("/proc/sys/kernel/modprobe", "/tmp/x") }},
	{"user.max_user_namespaces", func() error { return written("/proc/sys/user/max_user_namespaces", "1") }},
	{"kernel.panic", func() error { return written("/proc/sys/kernel/panic", "1") }},
	{"/sys/block/vda/queue/read_ahead_kb", func() error { return written("/sys/block/vda/queue/read_ahead_kb", "1") }},
}

// permittedTries are what ordinary software needs.
var permittedTries = []try{
	{"ptrace of a child", func() error {
		p, err := os.StartProcess("/proc/self/exe", []string{"x", "pause"}, &os.ProcAttr{})
		if err != nil {
			return err
		}
		defer p.Wait()
		defer p.Kill()
		return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(p.Pid), 0, 0)
	}},
	{"kill of a child", func() error {
		p, err := os.StartProcess("/proc/self/exe", []string{"x", "pause"}, &os.ProcAttr{})
		if err != nil {
			return err
		}
		defer p.Wait()
		return p.Kill()
	}},
	{"bind to port 81", func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Bind(fd, &unix.SockaddrInet4{Port: 81})
	}},
	{"ping", func() error { return socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP) }},
	{"memfd_create", func() error { _, err := unix.MemfdCreate("x", 0); return err }},
	{"inotify_init1", func() error { _, err := unix.InotifyInit1(0); return err }},
	{"/dev/ptmx", func() error { return opened("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY) }},
	{"/dev/fd", func() error { return opened("/dev/fd/0", unix.O_RDONLY) }},
	{"/dev/shm", func() error { return os.WriteFile("/dev/shm/x"+strconv.Itoa(os.Getuid()), nil, 0o600) }},
	{"adjtimex to ask", func() error { _, err := unix.Adjtimex(&unix.Timex{}); return err }},
	{"chroot", func() error { return unix.Chroot("/") }},
	{"chown", func() error {
		path := "/tmp/owned" + strconv.Itoa(os.Getuid())
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		return os.Chown(path, 1000, 4)
	}},
	{"write in /etc", func() error { return os.WriteFile("/etc/intruder", nil, 0o600) }},
}

// alone are tries that may end the process.
var alone = map[string]func() error{
	"i386 getpid": func() error { return i386() },
	"pause":       func() error { <-time.After(time.Minute); return nil },
}
