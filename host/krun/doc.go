// SPDX-License-Identifier: Apache-2.0

// Package krun runs virtual machines with libkrun, on KVM and on Apple Silicon.
//
// libkrun takes over the process that enters a machine and ends it with the
// machine. So there is one such process for each machine, waggle-krun: it loads
// libkrun, and nothing else in Waggle does. This package finds the libraries,
// starts that process and carries its streams; it never loads them itself.
//
// # What the VMM is trusted with
//
// libkrun serves its guest a virtio-fs device that does not confine it, so a
// hostile guest has what the process has. On Linux that is a jail of its own
// (host/krun/jail). What is left to the host: the VMM owns the directory
// <dir>/krun, so nothing in it is followed (dial_linux.go), and the console is a
// pipe, so that the guest cannot fill a disk with it.
//
// # Streams
//
// libkrun connects Unix sockets with vsock ports and has rules of its own: it
// answers half-closing by a reset, drops what it has not delivered when the host
// closes, and stands still, machine and all, while the host does not read. proxy.go
// and ready.go are written around these.
package krun
