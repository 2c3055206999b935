// SPDX-License-Identifier: Apache-2.0

// Package vm is the contract between Waggle and a virtual machine monitor:
// what a machine is made of (Spec), what runs it (Backend), and what the owner
// may do with one that runs (Machine). It holds no implementation; host/qemu
// and host/krun are the two that exist.
package vm
