// SPDX-License-Identifier: Apache-2.0

// Package supervisor is the process that owns one virtual machine, its control
// API, and the client that starts such a process and finds it again.
//
// One supervisor runs for each machine, in a session of its own, so that no end
// of a server or a terminal ends the machine. It is the truth about it: it owns
// the VMM, the network, the scratch disk and the sockets, and keeps the limits
// (idle, lifetime, orphan) by its own clock. The VMM never outlives it.
//
// # The directory
//
// <run>/<id>/ (0700) is the machine's handle for everyone else:
//
//	supervisor.sock  the control API (waggle.host.v1.Supervisor)
//	guestd.sock      each connection is a stream to guestd
//	vm.json          Record: what it is made of, who runs it, how it ended
//	console.log      beginning and end of the serial console
//	supervisor.log   the supervisor's own log
//
// After an end that was asked for, or that a limit brought, the directory is
// gone. After a crash or a failed boot vm.json, console.log and supervisor.log
// stay until RemoveDead.
//
// A supervisor that is killed leaves its directory, its scratch disk or both. The
// sweeps find what nobody holds: locks say who lives, not pids, because several
// run directories, users and containers may share a directory of disks.
//
// # Order of the end
//
// The machine first, then its network, then the files, then PHASE_ENDED: whoever
// sees the end finds nothing left.
package supervisor
