// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkJail tries what waggle-krun does.
func checkJail(euid int) finding {
	return jailFinding(euid, tryNamespaces(euid), landlockVersion(), readSetting)
}

// tryNamespaces runs a program that does nothing in all the namespaces of a jail,
// and makes the mounts in it private, which tells where a user namespace can be
// made but not used.
func tryNamespaces(euid int) error {
	path, err := exec.LookPath("true")
	if err != nil {
		return fmt.Errorf("try namespaces: %w", err)
	}
	attr := &syscall.SysProcAttr{
		Cloneflags:   unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Unshareflags: unix.CLONE_NEWNS,
	}
	if euid != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: euid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	cmd := exec.Command(path) //nolint:noctx // it ends at once, or was never started
	cmd.SysProcAttr = attr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("try namespaces: %w", err)
	}
	return nil
}

// landlockVersion is the kernel's, 0 without Landlock.
func landlockVersion() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}
