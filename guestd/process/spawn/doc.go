// SPDX-License-Identifier: Apache-2.0

// Package spawn starts workloads with less privilege than guestd has.
//
// guestd stays root and unfiltered. no_new_privs, the capability bounding set, the
// filter of system calls and the mount namespace belong to a thread and pass to its
// children, and none but the last can be undone. So the package keeps one thread for
// each kind of workload that has them set
// (a locked goroutine that is never unlocked, so the runtime neither reuses nor
// clones the thread) and forks every workload from there. The kernel applies
// user, groups, control group and session between fork and exec. Nothing is
// executed in between, which would cost many milliseconds for each command.
package spawn
