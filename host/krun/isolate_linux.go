// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
)

// confinement is what is tried first.
const confinement = spec.Namespaces

// isolated asks for the namespaces of the jail. A caller that is not root needs a
// user namespace, in which its own id stays what it is; there the first stage has
// the two capabilities that building and leaving off take. With a user to become it
// runs as root and needs none.
func isolated(user *spec.User) syscall.SysProcAttr {
	attr := syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET,
	}
	if user != nil || os.Geteuid() == 0 {
		return attr
	}
	uid, gid := os.Geteuid(), os.Getegid()
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
	return attr
}
