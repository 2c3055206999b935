// SPDX-License-Identifier: Apache-2.0

// Package reap is the one owner of wait4 in guestd.
//
// As the first process of the machine guestd inherits every orphan, and each of
// them must be waited for or the process table fills up with zombies. A wait
// for "any child" would however steal the status that another part of guestd
// waits for. So one Reaper does all the waiting: it hands the status of the
// children that were started through it to whoever holds the Child, and throws
// the others away. Nothing else in guestd may call wait4, os.Process.Wait or
// os/exec.
package reap
