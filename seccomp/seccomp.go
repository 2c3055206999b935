// SPDX-License-Identifier: Apache-2.0

//go:build linux

package seccomp

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Check looks at one argument of a system call: at its low 32 bits, which are all
// that the kernel takes for an int or a uid. High bits must not hide a value.
type Check struct {
	Arg   uint32
	Op    bpf.JumpTest
	Value uint32
}

// Rule refuses a system call, with all arguments or where one check applies.
type Rule struct {
	Nr     uint32
	Errno  unix.Errno
	Checks []Check
}

// Refuse are rules for calls that are refused whatever their arguments.
func Refuse(errno unix.Errno, numbers ...uint32) []Rule {
	var all []Rule
	for _, nr := range numbers {
		all = append(all, Rule{Nr: nr, Errno: errno})
	}
	return all
}

// Equal applies when one of the arguments has the value.
func Equal(value uint32, args ...uint32) []Check {
	var all []Check
	for _, arg := range args {
		all = append(all, Check{arg, bpf.JumpEqual, value})
	}
	return all
}

// AnyBit applies when the argument has one of the bits.
func AnyBit(bits, arg uint32) []Check { return []Check{{arg, bpf.JumpBitsSet, bits}} }

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
func assemble(all []Rule) []bpf.Instruction {
	refuse := func(errno unix.Errno) bpf.Instruction {
		return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)}
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: archAt, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: Arch, SkipTrue: 1},
		// The calls of the 32-bit ABI have other numbers. A program for it would
		// not get past an error: even its exit would fail.
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
		bpf.LoadAbsolute{Off: numberAt, Size: 4},
	}
	if ForeignFrom != 0 {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: ForeignFrom, SkipFalse: 1},
			refuse(unix.ENOSYS))
	}
	for _, r := range all {
		if len(r.Checks) == 0 {
			program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.Nr, SkipFalse: 1}, refuse(r.Errno))
			continue
		}
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.Nr, SkipFalse: uint8(3*len(r.Checks) + 1)})
		for _, c := range r.Checks {
			program = append(program,
				bpf.LoadAbsolute{Off: argsAt + argSize*c.Arg, Size: 4},
				bpf.JumpIf{Cond: c.Op, Val: c.Value, SkipFalse: 1},
				refuse(r.Errno))
		}
		program = append(program, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
	}
	return append(program, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
}

// Restrict puts the calling thread, and what it starts from then on, under the
// rules. It needs no_new_privs. Other threads of the process stay as they are.
func Restrict(all []Rule) error {
	raw, err := bpf.Assemble(assemble(all))
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
