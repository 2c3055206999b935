// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// KVMDevice is where Linux offers its hypervisor.
const KVMDevice = "/dev/kvm"

// OpenKVM opens the device, with the remedy where that fails. It looks no
// further than that.
func OpenKVM(device string) (*os.File, error) {
	kvm, err := os.OpenFile(device, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s does not exist: load the module with `modprobe kvm_intel` or `modprobe kvm_amd`, "+
			"or enable (nested) virtualisation of this machine", device)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no permission for %s: %s", device, accessRemedy(device))
	case err != nil:
		return nil, fmt.Errorf("%s is unusable: %w", device, err)
	}
	return kvm, nil
}
