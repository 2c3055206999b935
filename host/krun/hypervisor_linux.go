// SPDX-License-Identifier: Apache-2.0

package krun

import "github.com/stacklok/waggle/host/vmm"

// Probe says why libkrun has no hypervisor here, with the remedy, or nil.
func Probe() error { return vmm.ProbeKVM() }

// hypervisor returns the device that machines need.
func hypervisor(device string) (string, error) {
	if device == "" {
		return vmm.KVMDevice, vmm.ProbeKVM()
	}
	kvm, err := vmm.OpenKVM(device)
	if err != nil {
		return "", err
	}
	return device, kvm.Close()
}
