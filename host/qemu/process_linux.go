// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"os"
	"strings"
	"syscall"

	"github.com/stacklok/waggle/host/vmm"
)

// name is what errors call it.
const name = "qemu"

// spawn starts QEMU with files as its descriptors from vmm.FirstFD on.
func spawn(binary string, args []string, files []*os.File, cred *syscall.Credential) (*vmm.Process, error) {
	return vmm.Spawn(vmm.Command{
		Name: name, Path: binary, Args: args, Files: files, Quiet: withoutProgram,
		Env:  []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"},
		Attr: syscall.SysProcAttr{Credential: cred},
	})
}

// withoutProgram takes off the program's name that QEMU puts in front of each
// message.
func withoutProgram(line string) string {
	if program, message, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(program, "qemu-system-") {
		return message
	}
	return line
}

// ProbeKVM is vmm.ProbeKVM.
func ProbeKVM() error { return vmm.ProbeKVM() }

// Identity says as whom QEMU runs when the caller starts it. shared: machines
// have one user together. err: it cannot be started as it should.
func Identity() (who string, shared bool, err error) { return vmm.Identity("QEMU") }

// credential is what QEMU is started with, or nil for the caller's own. The KVM
// device is the only thing that QEMU opens by its name.
func (b *Backend) credential() (*syscall.Credential, error) {
	kvm := ""
	if b.accel == AccelKVM {
		kvm = vmm.KVMDevice
	}
	return vmm.Credential("QEMU", b.cfg.User, kvm, b.log)
}
