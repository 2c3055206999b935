// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package qemu

import (
	"context"
	"errors"

	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vmm"
)

var errNotLinux = errors.New("the QEMU backend runs on Linux only; use the krun backend here")

// ProbeKVM is vmm.ProbeKVM.
func ProbeKVM() error { return vmm.ProbeKVM() }

// Identity fails.
func Identity() (who string, shared bool, err error) { return "", false, errNotLinux }

// Start fails. It closes what it was given, as on Linux.
func (b *Backend) Start(_ context.Context, spec vm.Spec) (vm.Machine, error) {
	if spec.Guest != nil {
		_ = spec.Guest.Close()
	}
	if spec.NIC != nil && spec.NIC.Conn != nil {
		_ = spec.NIC.Conn.Close()
	}
	return nil, errNotLinux
}
