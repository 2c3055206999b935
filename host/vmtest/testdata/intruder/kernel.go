// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelTries reach for the kernel: its code, its clock, its devices, its power.
var kernelTries = []try{
	{"init_module", func() error { return call(unix.SYS_INIT_MODULE, 0, 0, 0) }},
	{"finit_module", func() error { return call(unix.SYS_FINIT_MODULE, 0, 0, 0) }},
	{"delete_module", func() error { return unix.DeleteModule("virtio_net", unix.O_NONBLOCK) }},
	{"kexec_load", func() error { return call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0) }},
	{"kexec_file_load", func() error { return call(unix.SYS_KEXEC_FILE_LOAD, 0, 0, 0, 0, 0) }},
	{"reboot", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }},
	{"/proc/sysrq-trigger", func() error { return written("/proc/sysrq-trigger", "h") }},
	{"swapon", func() error { return call(unix.SYS_SWAPON, 0, 0) }},
	{"clock_settime", func() error {
		return unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: 1 << 30})
	}},
	{"settimeofday", func() error { return unix.Settimeofday(&unix.Timeval{Sec: 1 << 30}) }},
	{"adjtimex", func() error {
		_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_FREQUENCY, Freq: 1})
		return err
	}},
	{"sethostname", func() error { return unix.Sethostname([]byte("x")) }},
	{"bpf", func() error { return call(unix.SYS_BPF, 0, 0, 0) }},
	{"perf_event_open", func() error { return call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0) }},
	{"userfaultfd", func() error { return call(unix.SYS_USERFAULTFD, unix.O_CLOEXEC) }},
	{"io_uring_setup", func() error { return call(unix.SYS_IO_URING_SETUP, 1, 0) }},
	{"keyctl", func() error { return call(unix.SYS_KEYCTL, 0, 0) }},
	{"add_key", func() error { return call(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0) }},
	{"request_key", func() error { return call(unix.SYS_REQUEST_KEY, 0, 0, 0, 0) }},
	{"syslog", func() error { return call(unix.SYS_SYSLOG, 3, 0, 0) }},
	{"/dev/vda", func() error { return opened("/dev/vda", unix.O_RDONLY) }},
	{"/dev/vdb", func() error { return opened("/dev/vdb", unix.O_RDWR) }},
	{"/dev/mem", func() error { return opened("/dev/mem", unix.O_RDONLY) }},
	{"/proc/kcore", func() error { return opened("/proc/kcore", unix.O_RDONLY) }},
	{"/dev/console", func() error { return opened("/dev/console", unix.O_WRONLY) }},
	{"/dev/rtc0", func() error { return opened("/dev/rtc0", unix.O_RDONLY) }},
	{"mknod of a disk", func() error { return unix.Mknod("/tmp/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(254, 1))) }},
	{"socket AF_VSOCK", func() error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) }},
	{"socket AF_VSOCK with high bits set", func() error { return call(unix.SYS_SOCKET, 1<<32|unix.AF_VSOCK, unix.SOCK_STREAM) }},
	{"socket AF_PACKET", func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) }},
	{"socket SOCK_RAW", func() error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) }},
	{"ioctl SIOCSIFFLAGS", func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		ifr, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		ifr.SetUint16(0)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
	}},
}

// mountTries reach for other mounts. Made with nonsense where the filter must
// answer before the kernel looks at it.
var mountTries = []try{
	{"mount", func() error { return unix.Mount("tmpfs", "/mnt", "tmpfs", 0, "") }},
	{"mount MS_BIND", func() error { return unix.Mount("/tmp", "/mnt", "", unix.MS_BIND, "") }},
	{"mount MS_REMOUNT", func() error { return unix.Mount("", "/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "") }},
	{"umount", func() error { return unix.Unmount("/run/waggle", unix.MNT_DETACH) }},
	{"pivot_root", func() error { return unix.PivotRoot("/tmp", "/tmp") }},
	{"move_mount", func() error { return unix.MoveMount(-1, "/tmp", -1, "/mnt", 0) }},
	{"open_tree", func() error { return call(unix.SYS_OPEN_TREE, 0, 0, unix.OPEN_TREE_CLONE) }},
	{"fsopen", func() error { return call(unix.SYS_FSOPEN, 0, 0) }},
	{"fsconfig", func() error { return call(unix.SYS_FSCONFIG, 0, 0, 0, 0, 0) }},
	{"fsmount", func() error { return call(unix.SYS_FSMOUNT, 0, 0, 0) }},
	{"fspick", func() error { return call(unix.SYS_FSPICK, 0, 0, 0) }},
	{"mount_setattr", func() error { return call(unix.SYS_MOUNT_SETATTR, 0, 0, 0, 0, 0) }},
}

// namespaceTries reach for namespaces, in which a process has all capabilities.
var namespaceTries = []try{
	{"unshare CLONE_NEWUSER", func() error { return unshare(unix.CLONE_NEWUSER) }},
	{"unshare CLONE_NEWNS", func() error { return unshare(unix.CLONE_NEWNS) }},
	{"unshare CLONE_NEWNET", func() error { return unshare(unix.CLONE_NEWNET) }},
	{"clone CLONE_NEWUSER", func() error {
		return child(unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0))
	}},
	{"clone3 CLONE_NEWUSER", func() error {
		args := struct{ flags, pidfd, childTid, parentTid, exitSignal, stack, size, tls uint64 }{
			flags: unix.CLONE_NEWUSER, exitSignal: uint64(unix.SIGCHLD),
		}
		return child(unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0))
	}},
	{"/proc/1/ns/mnt", func() error { return opened("/proc/1/ns/mnt", unix.O_RDONLY) }},
}

// unshare runs on a thread that ends with it.
func unshare(flags int) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- unix.Unshare(flags)
	}()
	return <-result
}

// child ends the child of a bare fork at once, and waits for it in the parent.
func child(pid, _ uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		for {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	p, err := os.FindProcess(int(pid))
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}
