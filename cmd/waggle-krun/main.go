// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/stacklok/waggle/host/krun/spec"
)

func init() {
	// libkrun takes the process's first thread, whose stack is the largest. Also,
	// what the first stage does to itself is done to one thread.
	runtime.LockOSThread()
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run returns only with an error.
func run(args []string) error {
	enter := len(args) == 1 && args[0] == "enter"
	if len(args) > 0 && !enter {
		return errors.New("usage: waggle-krun takes no arguments; it is started by `waggle supervise`")
	}
	in := os.NewFile(spec.SpecFD, "machine")
	m, err := spec.Read(in)
	if err != nil {
		return fmt.Errorf("%w; waggle-krun is started by `waggle supervise`, not by hand", err)
	}
	if enter {
		return runMachine(m)
	}
	return prepare(m)
}
