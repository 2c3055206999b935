// SPDX-License-Identifier: Apache-2.0

// Package cgroup holds the processes of one exec together, so that they can be
// counted, signalled and ended as one, whatever they do to escape.
//
// A Group is a control group of version 2. A process cannot leave it without
// write access to the file system of control groups, which the workload user
// does not have; forking, setsid and double forks stay inside. Kill ends all of
// it at once in the kernel, so that a fork bomb cannot outrun it.
//
// Where there is no cgroup v2, as on a developer's machine, a Session takes its
// place with a weaker promise: it is the set of processes of one session
// (setsid), found by looking through /proc. A process that calls setsid leaves
// it for good, and forks can outrun its Kill. It reports no resource usage.
// guestd as the first process of a machine never uses it.
package cgroup
