// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command init does what the init of libkrun 1.17.3 does (init/init.c there), step
// by step and with the same flags, so that guestd finds what it will find under
// libkrun. Only the start differs: the kernel of libkrun has no modules, and here
// the first root is an initial file system where there it is a virtio-fs.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// environment is what libkrun puts on the kernel's command line, and what the
// kernel adds.
var environment = []string{
	"HOME=/", "TERM=linux",
	"KRUN_INIT=/lib/waggle/guestd", "KRUN_INIT_PID1=1", "KRUN_WORKDIR=/",
	"KRUN_BLOCK_ROOT_DEVICE=/dev/vda", "KRUN_BLOCK_ROOT_FSTYPE=ext4", "KRUN_BLOCK_ROOT_OPTIONS=ro",
}

func main() {
	err := run()
	fmt.Println("init:", err)
	// The end of PID 1 is a kernel panic, which the test sees.
}

func run() error {
	if err := loadModules(); err != nil {
		return err
	}
	// What must not be seen once the machine has another root.
	if err := os.WriteFile("/first-root", nil, 0o644); err != nil {
		return err
	}
	if err := mountFilesystems(); err != nil {
		return err
	}
	if err := mountRoot(); err != nil {
		return err
	}
	if err := mountFilesystems(); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	// As there, nobody looks whether these succeed.
	_, _ = unix.Setsid()
	_ = unix.IoctlSetInt(0, unix.TIOCSCTTY, 1)
	_ = unix.Sethostname([]byte("localhost"))
	_ = unix.Chdir("/")
	return unix.Exec("/lib/waggle/guestd", []string{"/lib/waggle/guestd"}, environment)
}

func loadModules() error {
	modules, err := filepath.Glob("/lib/waggle/modules/*.ko")
	if err != nil {
		return err
	}
	for _, path := range modules {
		file, err := os.Open(path)
		if err == nil {
			err = unix.FinitModule(int(file.Fd()), "", 0)
			_ = file.Close() // only read
		}
		if err != nil {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	return nil
}

// mountRoot makes the boot disk the root.
func mountRoot() error {
	if err := mkdir("/newroot"); err != nil {
		return err
	}
	// "ro" is data there, not a flag.
	if err := unix.Mount("/dev/vda", "/newroot", "ext4", 0, "ro"); err != nil {
		return fmt.Errorf("mount the boot disk: %w", err)
	}
	if err := unix.Chdir("/newroot"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the boot disk to /: %w", err)
	}
	return unix.Chroot(".")
}

func mountFilesystems() error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := mkdir(dir); err != nil {
			return err
		}
	}
	const most = unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_RELATIME
	if err := unix.Mount("devtmpfs", "/dev", "devtmpfs", unix.MS_RELATIME, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for _, m := range []struct {
		fs, dir string
		flags   uintptr
	}{
		{"proc", "/proc", most}, {"sysfs", "/sys", most}, {"cgroup2", "/sys/fs/cgroup", most},
		{"devpts", "/dev/pts", unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_RELATIME},
		{"tmpfs", "/dev/shm", unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_RELATIME},
	} {
		if m.dir == "/dev/pts" || m.dir == "/dev/shm" {
			if err := mkdir(m.dir); err != nil {
				return err
			}
		}
		if err := unix.Mount(m.fs, m.dir, m.fs, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	_ = os.Symlink("/proc/self/fd", "/dev/fd") // it may be there
	return nil
}

// mkdir takes a directory that is there for made, on a read-only disk too.
func mkdir(path string) error {
	if err := unix.Mkdir(path, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return nil
}
