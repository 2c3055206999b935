// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// mount is one line of a mount table.
type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
	// wished is tried in place of data; an older kernel need not know it.
	wished string
}

func (m mount) String() string {
	return fmt.Sprintf("%s on %s type %s (%s)", m.source, m.target, m.fstype, m.data)
}

const (
	noSUID = unix.MS_NOSUID
	noDev  = unix.MS_NODEV
	noExec = unix.MS_NOEXEC
)

// kernelMounts are needed to load modules and to find disks. They move along to
// the root disk.
var kernelMounts = []mount{
	{"proc", "/proc", "proc", noSUID | noDev | noExec, "", ""},
	{"sysfs", "/sys", "sysfs", noSUID | noDev | noExec, "", ""},
	{"devtmpfs", "/dev", "devtmpfs", noSUID, "mode=0755", ""},
}

// systemMounts are what programs expect, in order. The memory of a tmpfs is
// taken only as it fills, so sizes are limits, in bytes or parts of the memory.
var systemMounts = []mount{
	{"devpts", "/dev/pts", "devpts", noSUID | noExec, "gid=5,mode=0620,ptmxmode=0666", ""},
	{"tmpfs", "/dev/shm", "tmpfs", noSUID | noDev, "mode=1777,size=25%", ""},
	{"tmpfs", "/run", "tmpfs", noSUID | noDev, "mode=0755,size=16m", ""},
	{"tmpfs", "/tmp", "tmpfs", noSUID | noDev, "mode=1777,size=50%", ""},
	// nsdelegate (Linux 4.13): who gets a control group by way of a cgroup namespace
	// can neither lift its limits nor move processes out of it. memory_recursiveprot
	// (5.7): memory that a group is promised is promised to the groups in it.
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", noSUID | noDev | noExec, "", "nsdelegate,memory_recursiveprot"},
}

// clearMounts takes away what the kernel or an init before guestd has mounted at
// the places of the tables, so that each of them has our options afterwards, and is
// there once. It also makes what is left private: an init that shares its mounts
// would else keep them from being moved (mount(2), MS_MOVE).
func clearMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range slices.Backward(slices.Concat(kernelMounts, systemMounts)) {
		err := unix.Unmount(m.target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		// EINVAL: nothing is mounted there.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s of an earlier init: %w", m.target, err)
		}
	}
	return nil
}

// mountAll mounts a table below root, making mount points that are missing.
func mountAll(root string, table []mount) error {
	for _, m := range table {
		target := filepath.Join(root, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("make mount point of %s: %w", m, err)
		}
		if err := m.at(target); err != nil {
			return fmt.Errorf("mount %s: %w", m, err)
		}
	}
	return nil
}

// at mounts with the wished options, or without where the kernel does not know them.
func (m mount) at(target string) error {
	if m.wished != "" {
		err := unix.Mount(m.source, target, m.fstype, m.flags, m.wished)
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return unix.Mount(m.source, target, m.fstype, m.flags, m.data)
}
