// SPDX-License-Identifier: Apache-2.0

// Package admin makes one server the owner of a run directory and lets people on
// the host ask it how it is.
//
// Ownership is a lock (flock) on <run>/waggle.lock, held for the server's life:
// the kernel gives it back however the server ends. The file is never deleted,
// because two servers could then each hold a lock of that name; it holds the
// owner's pid, for the error of whoever comes second. The owner serves
// waggle.host.v1.Admin on <run>/waggle.sock.
//
// Only servers take the lock. What works without a server (run, ps, exec, logs,
// rm) asks the supervisors and needs no owner.
package admin
