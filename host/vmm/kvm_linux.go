// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"bytes"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// From linux/kvm.h, which x/sys/unix leaves out.
const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01
	kvmAPIVersion    = 12
)

// ProbeKVM says why KVM cannot be used here, with the remedy, or nil. It looks
// further than the device: some containers and nested machines have a /dev/kvm
// that makes VMs which never run.
func ProbeKVM() error {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return fmt.Errorf("read CPU flags: %w", err)
	}
	return probeKVM(KVMDevice, runtime.GOARCH, cpuinfo)
}

func probeKVM(device, goarch string, cpuinfo []byte) error {
	// First: where this is missing no access to the device helps.
	if goarch == "amd64" && !hasVirtualisation(cpuinfo) {
		return fmt.Errorf("%s cannot be used: the CPU has no hardware virtualisation (neither vmx nor svm): "+
			"enable it in the firmware, or nested virtualisation in the hypervisor above", device)
	}
	kvm, err := OpenKVM(device)
	if err != nil {
		return err
	}
	defer kvm.Close()
	version, err := unix.IoctlRetInt(int(kvm.Fd()), kvmGetAPIVersion)
	if err != nil {
		return fmt.Errorf("%s is not KVM: %w", device, err)
	}
	if version != kvmAPIVersion {
		return fmt.Errorf("%s has API version %d, want %d", device, version, kvmAPIVersion)
	}
	vm, err := unix.IoctlRetInt(int(kvm.Fd()), kvmCreateVM)
	if err != nil {
		return fmt.Errorf("%s cannot create a VM: %w; is another hypervisor running?", device, err)
	}
	if err := unix.Close(vm); err != nil {
		return fmt.Errorf("close probed VM: %w", err)
	}
	return nil
}

// hasVirtualisation looks for vmx (Intel) or svm (AMD) in the CPU's flags.
func hasVirtualisation(cpuinfo []byte) bool {
	for line := range bytes.Lines(cpuinfo) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		if string(bytes.TrimSpace(key)) != "flags" {
			continue
		}
		for flag := range bytes.FieldsSeq(value) {
			if string(flag) == "vmx" || string(flag) == "svm" {
				return true
			}
		}
	}
	return false
}
