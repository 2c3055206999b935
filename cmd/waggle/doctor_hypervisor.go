// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/stacklok/waggle/host/qemu"
)

// checkHypervisor: QEMU emulates without KVM, which is worth a note, unless
// WAGGLE_ACCEL asks for it. libkrun does not. err is what libkrun would meet.
func checkHypervisor(accel string, onKrun bool, err error) finding {
	check := "kvm"
	if runtime.GOOS == "darwin" {
		check = "hypervisor"
	}
	if accel == string(qemu.AccelTCG) && !onKrun {
		return good(check, "not used: WAGGLE_ACCEL is tcg, machines are emulated")
	}
	if !onKrun {
		err = qemu.ProbeKVM()
	}
	if err == nil {
		return good(check, "machines run on the hardware")
	}
	switch { // the error has the command that mends it
	case onKrun:
		return missing(check, err.Error(), "mend that; or: export WAGGLE_BACKEND=auto")
	case accel == string(qemu.AccelKVM):
		return missing(check, err.Error(), "mend that; or: export WAGGLE_ACCEL=auto")
	}
	return note(check, "machines are emulated, which is slow: "+err.Error(), "")
}

// checkNested says whether KVM here is a machine's in a machine, and what is missing
// where the one above does not let it. Whether KVM works is checkHypervisor's.
func checkNested(goarch, cpuinfo string) finding {
	const check = "nested virtualisation"
	text, err := os.ReadFile(cpuinfo)
	if err != nil || goarch != "amd64" {
		return good(check, "cannot be told from the CPU here")
	}
	flags := cpuFlags(text)
	has := slices.Contains(flags, "vmx") || slices.Contains(flags, "svm")
	switch inside := slices.Contains(flags, "hypervisor"); {
	case inside && has:
		return good(check, "this host is a virtual machine, and may have machines of its own")
	case inside:
		return note(check, "this host is a virtual machine without nested virtualisation",
			"on the host above: enable it (modprobe kvm_intel nested=1, or kvm_amd) and pass its CPU on (QEMU: -cpu host)")
	case has:
		return good(check, "not needed: this host is no virtual machine")
	}
	return note(check, "this CPU has no hardware virtualisation, or the firmware keeps it off", "enable VT-x or AMD-V (SVM) in the firmware")
}

// cpuFlags are those of the first CPU.
func cpuFlags(cpuinfo []byte) []string {
	for lines := bufio.NewScanner(bytes.NewReader(cpuinfo)); lines.Scan(); {
		if key, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(key) == "flags" {
			return strings.Fields(value)
		}
	}
	return nil
}
