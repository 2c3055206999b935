// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// sandbox is QEMU's own seccomp filter, as tight as it gets.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// layout is a machine as its command line describes it. All numbers named fd
// are descriptors in QEMU.
type layout struct {
	arch      arch
	accel     Accel
	cpus      int
	memoryMiB int

	kernelFD, initrdFD int
	disks              []diskFD
	nicFD              int // 0 for no NIC
	mac                net.HardwareAddr
	vsockFD            int
	consoleFD, qmpFD   int
}

type diskFD struct {
	fd       int
	readOnly bool
}

// args is QEMU's command line, without the program's name. Devices come in the
// order in which the guest shall find them.
func (l layout) args() []string {
	memory := strconv.Itoa(l.memoryMiB) + "M"
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-sandbox", sandbox,
		"-accel", l.accelArg(), "-cpu", l.cpuArg(), "-smp", strconv.Itoa(l.cpus),
		// The vsock device maps the guest's memory, so it is shared; sealed,
		// so that it cannot shrink under the device.
		"-m", memory,
		"-object", "memory-backend-memfd,id=mem,size=" + memory + ",share=on,seal=on",
		"-M", l.arch.machine + ",memory-backend=mem,dump-guest-core=off",
		// Neither option takes a descriptor set, but both open by path.
		"-kernel", fmt.Sprintf("/proc/self/fd/%d", l.kernelFD),
		"-initrd", fmt.Sprintf("/proc/self/fd/%d", l.initrdFD),
		"-append", l.cmdline(),
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", l.consoleFD),
		"-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", l.qmpFD),
		"-mon", "chardev=qmp,mode=control",
	}
	for i, disk := range l.disks {
		args = append(args, disk.args(i)...)
	}
	if l.nicFD != 0 {
		args = append(args,
			"-netdev", fmt.Sprintf("stream,id=net,addr.type=fd,addr.str=%d", l.nicFD),
			// No option ROM: nothing boots from the network.
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net,mac=%s,romfile=", l.mac))
	}
	return append(args,
		"-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng",
		"-chardev", fmt.Sprintf("socket,id=vsock,fd=%d", l.vsockFD),
		"-device", "vhost-user-vsock-pci,chardev=vsock")
}

// args of the i-th disk. Its descriptor goes by way of a set, because QEMU
// could not open a file of another owner itself.
func (d diskFD) args(i int) []string {
	set := i + 1 // sets count from 1 here
	file := fmt.Sprintf("driver=raw,node-name=disk%d,file.driver=file,file.filename=/dev/fdset/%d", i, set)
	if d.readOnly {
		// Shared by all machines, so nobody may lock it.
		file += ",read-only=on,file.read-only=on,file.locking=off"
	} else {
		// A scratch disk does not outlive its machine: a flush by the guest
		// need not reach the host's disk, but what it discards is given back.
		file += ",cache.no-flush=on,discard=unmap,file.discard=unmap"
	}
	return []string{
		"-add-fd", fmt.Sprintf("fd=%d,set=%d", d.fd, set),
		"-blockdev", file,
		// A full disk of the host's is no error of the guest's, who would take
		// its own disk for broken: it waits. Any other error is reported.
		"-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d,werror=enospc,rerror=report", i),
	}
}

func (l layout) accelArg() string {
	if l.accel == AccelKVM {
		return "kvm"
	}
	// Translated code may take this many MiB, where QEMU's own limit is 1 GiB for
	// each machine. When it is full, translation starts afresh.
	return "tcg,thread=multi,tb-size=256"
}

func (l layout) cpuArg() string {
	if l.accel == AccelKVM {
		return "host"
	}
	return l.arch.cpuTCG
}

// cmdline is the kernel's.
func (l layout) cmdline() string {
	words := append([]string(nil), l.arch.cmdline...)
	if l.accel != AccelTCG {
		return strings.Join(words, " ")
	}
	words = append(words, l.arch.cmdlineTCG...)
	if l.cpus > 1 {
		words = append(words, l.arch.cmdlineSMP...)
	}
	return strings.Join(words, " ")
}
