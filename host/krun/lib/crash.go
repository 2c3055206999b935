// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin

package lib

import (
	"syscall"

	"github.com/ebitengine/purego"
)

// plainCrashes gives the signals of a crash back to the system. libkrun aborts
// where it finds no error to return (a broken /dev/kvm, say), after a line that says
// why. Go's handlers would put some hundred lines of stacks behind that one, and its
// reader keeps the end alone.
func plainCrashes() {
	address, err := purego.Dlsym(purego.RTLD_DEFAULT, "signal")
	if err != nil {
		return // the stacks are a nuisance, no more
	}
	var signal func(number int32, handler uintptr) uintptr
	purego.RegisterFunc(&signal, address)
	const byDefault = 0 // SIG_DFL
	for _, s := range []syscall.Signal{syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGTRAP} {
		signal(int32(s), byDefault)
	}
}
