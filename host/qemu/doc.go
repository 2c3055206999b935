// SPDX-License-Identifier: Apache-2.0

// Package qemu runs virtual machines with QEMU, under KVM where it works and
// by emulation (TCG) elsewhere. vsock is a vhost-user device in this process
// (host/vhostvsock), so neither the vhost_vsock module nor root is needed.
//
// All that QEMU touches reaches it as an inherited descriptor: kernel, initial
// file system, disks, network, vsock, console and QMP. So it needs no access to
// any directory, and when Waggle runs as root, each QEMU runs as a uid of its
// own, without privileges and behind its seccomp filter.
//
// QEMU ends with the process that started it: the kernel kills it when the
// thread that forked it dies, and that thread lives as long as QEMU does
// (host/vmm).
package qemu
