// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import (
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/identity"
	"github.com/stacklok/waggle/seccomp"
)

// rules are what a command may not do, by the calls that both architectures have.
// What it may not do for want of a capability is here again where it would reach
// beyond the command. ENOSYS is for what a kernel may lack, so that programs fall
// back. docs/security.md has the table for people.
func rules() []seccomp.Rule {
	var all []seccomp.Rule
	add := func(errno unix.Errno, numbers ...uint32) {
		all = append(all, seccomp.Refuse(errno, numbers...)...)
	}
	add(unix.EPERM,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR,
		unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
		// adjtimex is also how programs ask for the clock's state: setting it
		// needs a capability that no command has.
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN)
	add(unix.ENOSYS,
		// io_uring makes sockets, and much else, past this filter.
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_USERFAULTFD,
		// request_key has the kernel run a program of the image as root.
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL)
	all = append(all,
		// The host's services on vsock are guestd's alone.
		seccomp.Rule{Nr: unix.SYS_SOCKET, Errno: unix.EAFNOSUPPORT, Checks: seccomp.Equal(unix.AF_VSOCK, 0)},
		seccomp.Rule{Nr: unix.SYS_SOCKETPAIR, Errno: unix.EAFNOSUPPORT, Checks: seccomp.Equal(unix.AF_VSOCK, 0)},
		// clone3 hides its flags in memory; user.max_user_namespaces stops it.
		seccomp.Rule{Nr: unix.SYS_CLONE, Errno: unix.EPERM, Checks: seccomp.AnyBit(unix.CLONE_NEWUSER, 0)},
		seccomp.Rule{Nr: unix.SYS_UNSHARE, Errno: unix.EPERM, Checks: seccomp.AnyBit(unix.CLONE_NEWUSER, 0)},
		// As guestd's user a command could signal guestd.
		seccomp.Rule{Nr: unix.SYS_SETUID, Errno: unix.EPERM, Checks: seccomp.Equal(identity.UID, 0)},
		seccomp.Rule{Nr: unix.SYS_SETREUID, Errno: unix.EPERM, Checks: seccomp.Equal(identity.UID, 0, 1)},
		seccomp.Rule{Nr: unix.SYS_SETRESUID, Errno: unix.EPERM, Checks: seccomp.Equal(identity.UID, 0, 1, 2)},
	)
	return all
}
