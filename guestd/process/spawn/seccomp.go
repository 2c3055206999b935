// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/identity"
)

// check looks at one argument of a system call: at its low 32 bits, which are all
// that the kernel takes for an int or a uid. High bits must not hide a value.
type check struct {
	arg   uint32
	op    bpf.JumpTest
	value uint32
}

// rule refuses a system call, with all arguments or where one check applies.
type rule struct {
	nr     uint32
	errno  unix.Errno
	checks []check
}

// rules are what a command may not do, by the calls that both architectures have.
// What it may not do for want of a capability is here again where it would reach
// beyond the command. ENOSYS is for what a kernel may lack, so that programs fall
// back. docs/security.md has the table for people.
func rules() []rule {
	var all []rule
	add := func(errno unix.Errno, numbers ...uint32) {
		for _, nr := range numbers {
			all = append(all, rule{nr: nr, errno: errno})
		}
	}
	add(unix.EPERM,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR,
		unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
		// adjtimex is also how programs ask for the clock's state: setting it
		// needs a capability that no command has.
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN)
	add(unix.ENOSYS,
		// io_uring makes sockets, and much else, past this filter.
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_USERFAULTFD,
		// request_key has the kernel run a program of the image as root.
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL)
	all = append(all,
		// The host's services on vsock are guestd's alone.
		rule{unix.SYS_SOCKET, unix.EAFNOSUPPORT, equal(unix.AF_VSOCK, 0)},
		rule{unix.SYS_SOCKETPAIR, unix.EAFNOSUPPORT, equal(unix.AF_VSOCK, 0)},
		// clone3 hides its flags in memory; user.max_user_namespaces stops it.
		rule{unix.SYS_CLONE, unix.EPERM, []check{{0, bpf.JumpBitsSet, unix.CLONE_NEWUSER}}},
		rule{unix.SYS_UNSHARE, unix.EPERM, []check{{0, bpf.JumpBitsSet, unix.CLONE_NEWUSER}}},
		// As guestd's user a command could signal guestd.
		rule{unix.SYS_SETUID, unix.EPERM, equal(identity.UID, 0)},
		rule{unix.SYS_SETREUID, unix.EPERM, equal(identity.UID, 0, 1)},
		rule{unix.SYS_SETRESUID, unix.EPERM, equal(identity.UID, 0, 1, 2)},
	)
	return all
}

// equal applies when one of the arguments has the value.
func equal(value uint32, args ...uint32) []check {
	var all []check
	for _, arg := range args {
		all = append(all, check{arg, bpf.JumpEqual, value})
	}
	return all
}

// What seccomp_data(2) has where, in bytes. Both architectures are little-endian.
const (
	numberAt = 0
	archAt   = 4
	argsAt   = 16
	argSize  = 8
)

// assemble writes the program. Each rule is complete in itself, so the number of
// rules is not bounded by the reach of a jump, and the kernel works out once, when
// the filter is set, which calls it always allows (Linux 5.11): those cost nothing.
func assemble(all []rule) []bpf.Instruction {
	refuse := func(errno unix.Errno) bpf.Instruction {
		return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)}
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: archAt, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		// The calls of the 32-bit ABI have other numbers. A program for it would
		// not get past an error: even its exit would fail.
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
		bpf.LoadAbsolute{Off: numberAt, Size: 4},
	}
	if foreignFrom != 0 {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: foreignFrom, SkipFalse: 1},
			refuse(unix.ENOSYS))
	}
	for _, r := range all {
		if len(r.checks) == 0 {
			program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.nr, SkipFalse: 1}, refuse(r.errno))
			continue
		}
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.nr, SkipFalse: uint8(3*len(r.checks) + 1)})
		for _, c := range r.checks {
			program = append(program,
				bpf.LoadAbsolute{Off: argsAt + argSize*c.arg, Size: 4},
				bpf.JumpIf{Cond: c.op, Val: c.value, SkipFalse: 1},
				refuse(r.errno))
		}
		program = append(program, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
	}
	return append(program, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
}

// filter puts the calling thread, and what it starts from then on, under the
// rules. It needs no_new_privs. Other threads of the process stay as they are.
func filter() error {
	raw, err := bpf.Assemble(assemble(rules()))
	if err != nil {
		return fmt.Errorf("assemble system call filter: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		code[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	program := &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	// Without SPEC_ALLOW older kernels slow every filtered process down, as a
	// guard against reading the memory of a program that it shares a process with.
	err = setFilter(unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, program)
	if errors.Is(err, unix.EINVAL) { // Linux before 4.17
		err = setFilter(0, program)
	}
	if err != nil {
		return fmt.Errorf("set system call filter: %w", err)
	}
	return nil
}

func setFilter(flags uintptr, program *unix.SockFprog) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(program)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return errno
	}
	return nil
}
