// SPDX-License-Identifier: Apache-2.0

// Package seccomp takes system calls away from a thread and from all that it starts
// or becomes: guestd's commands in the machine, and libkrun's process on the host.
// Which ones is the caller's to say; what is not named stays allowed.
package seccomp
