// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package krun

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Probe says why libkrun has no hypervisor here, with the remedy, or nil.
func Probe() error {
	if runtime.GOOS != "darwin" || runtime.GOARCH != "arm64" {
		return fmt.Errorf("libkrun runs on Linux and on Apple Silicon, not on %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	supported, err := hvSupport()
	if err != nil {
		return fmt.Errorf("ask for the hypervisor framework: %w", err)
	}
	if supported != 1 {
		return errors.New("this Mac has no hypervisor framework: in a virtual machine, enable nested virtualisation")
	}
	return nil
}

// hypervisor: nothing is opened by name on macOS.
func hypervisor(string) (string, error) { return "", Probe() }

func hvSupport() (uint32, error) { return unix.SysctlUint32("kern.hv_support") }
