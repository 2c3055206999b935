// SPDX-License-Identifier: Apache-2.0

// Package remedy knows the commands that mend a host, so that doctor and every
// error that meets the same gap name the same one. They hold for a binary that is
// installed anywhere and a person who has nothing but Go and Waggle's checkout.
package remedy

import "os"

// Task is the command of a task, run in Waggle's checkout. It needs no Task
// installed.
func Task(name string) string { return "go tool -modfile=tools/go.mod task " + name }

// RunTask asks for a task within a sentence.
func RunTask(name string) string { return "run `" + Task(name) + "` in Waggle's checkout" }

// Apt is the command that installs Debian packages.
func Apt(packages string) string {
	const command = "apt-get install -y "
	if os.Geteuid() == 0 {
		return command + packages
	}
	return "sudo " + command + packages
}

// RunApt asks for Debian packages within a sentence.
func RunApt(packages string) string { return "run `" + Apt(packages) + "`" }

// Kernel says how to come by a guest kernel, within a sentence.
func Kernel() string {
	return RunTask("kernel") + " with WAGGLE_KERNEL unset, or set WAGGLE_KERNEL to a kernel"
}

// Guestd says how to come by the guest's agent, within a sentence. file is its name.
func Guestd(file string) string {
	return RunTask("build") + ", or set WAGGLE_GUESTD_DIR to the directory that holds " + file
}
