// SPDX-License-Identifier: Apache-2.0

//go:build linux

package seccomp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"
)

// Verdict is what the kernel would answer to a system call under the rules, for
// tests. The virtual machine of package bpf is one for packets and reads big-endian.
func Verdict(all []Rule, arch, nr uint32, args ...uint64) (uint32, error) {
	vm, err := bpf.NewVM(assemble(all))
	if err != nil {
		return 0, fmt.Errorf("check system call filter: %w", err)
	}
	data := make([]byte, argsAt+6*argSize)
	binary.BigEndian.PutUint32(data[numberAt:], nr)
	binary.BigEndian.PutUint32(data[archAt:], arch)
	for i, arg := range args {
		binary.BigEndian.PutUint32(data[argsAt+argSize*i:], uint32(arg))
		binary.BigEndian.PutUint32(data[argsAt+argSize*i+4:], uint32(arg>>32))
	}
	v, err := vm.Run(data)
	if err != nil {
		return 0, fmt.Errorf("run system call filter: %w", err)
	}
	return uint32(v), nil
}
