// SPDX-License-Identifier: Apache-2.0

// Package jail is waggle-krun's first stage on Linux: it shuts itself in and becomes
// the second one. It is needed because libkrun gives its guest a virtio-fs device
// that does not confine it: what the process can open, a hostile guest can.
//
// # With namespaces
//
// The supervisor starts the stage in new mount, process, IPC, UTS and network
// namespaces, and in a user namespace of the caller's own uid where the caller is
// not root. What there is inside (plan.go):
//
//	/waggle-krun            itself; and its ELF interpreter, at its place
//	/lib/<soname>           libkrun, libkrunfw and what they need
//	/dev/kvm /dev/null /dev/urandom
//	/disks/<name>           read-only but for the scratch disk
//	/vsock                  the machine's sockets and its console, writable
//	/tmp                    private, of 1 MiB, for libkrun's empty root
//	/proc                   of the new process namespace: pid 1 is the VMM
//
// There is no network interface but a loopback that is down, and no other file.
// As root it becomes a user that nobody else has. No capability is left, in no
// set, and none can be gained.
//
// Last, and either way, a filter takes away the system calls that no VMM makes
// (calls.go). It passes to the next program.
//
// # Without
//
// Where namespaces are refused, Landlock allows the same files. Paths inside are
// then descriptors (/proc/self/fd/N), so that no directory above them need be
// searched. That is less: names and metadata of other files can be looked up, and
// UDP is open.
package jail
