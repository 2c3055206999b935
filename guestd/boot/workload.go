// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// workload is the mount namespace that commands live in. A command that runs as
// root has no capability over the machine, yet every file of root's is open to it;
// so the files by which root changes the machine are not there, or cannot be
// written: the disks, guestd's own directory, the settings of the kernel, the
// control groups.
type workload struct {
	mu        sync.Mutex
	namespace *os.File // nil until the first thread has made it
}

// devices are all character devices that commands find in /dev.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// deviceLinks are names that programs and shells expect in /dev.
var deviceLinks = []struct{ name, target string }{
	{"fd", "/proc/self/fd"}, {"stdin", "fd/0"}, {"stdout", "fd/1"}, {"stderr", "fd/2"},
	{"ptmx", "pts/ptmx"},
}

// What commands see and cannot write: mounts, and parts of a mount, of which a
// kernel need not have all.
var (
	readOnlyMounts = []string{"/sys", "/sys/fs/cgroup"}
	readOnlyParts  = []string{
		"/proc/acpi", "/proc/bus", "/proc/dynamic_debug", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	}
)

// EnterWorkload moves the calling thread, for good, to where commands live. The
// goroutine must be locked to it. It may be called concurrently; the first caller
// makes the place.
func (m *Machine) EnterWorkload() error {
	w := &m.workload
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.namespace != nil {
		// A thread that shares its root with others cannot change namespaces.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("enter the workload's mounts: %w", err)
		}
		if err := unix.Setns(int(w.namespace.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("enter the workload's mounts: %w", err)
		}
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make the workload's mounts: %w", err)
	}
	if err := confineMounts(); err != nil {
		return fmt.Errorf("make the workload's mounts: %w", err)
	}
	namespace, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return fmt.Errorf("keep the workload's mounts: %w", err)
	}
	w.namespace = namespace // for the life of the machine
	return nil
}

// confineMounts changes the mounts of the calling thread's namespace.
func confineMounts() error {
	// What changes here must not change where guestd lives.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("part mounts from guestd's: %w", err)
	}
	if err := unix.Unmount(scratchDir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("hide scratch disk: %w", err)
	}
	// Until it is covered, guestd's directory is where the new /dev is made.
	if err := makeDevices(StateDir); err != nil {
		return fmt.Errorf("make /dev: %w", err)
	}
	// Covered, not only closed: what removes a directory in one namespace takes
	// the mounts on it away in all.
	cover := mount{"tmpfs", StateDir, "tmpfs", noSUID | noDev | noExec | unix.MS_RDONLY, "mode=0700,size=4k", ""}
	if err := cover.at(cover.target); err != nil {
		return fmt.Errorf("hide %s: %w", StateDir, err)
	}
	for _, path := range readOnlyParts {
		err := unix.Mount(path, path, "", unix.MS_BIND, "")
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			err = protect(path)
		}
		if err != nil {
			return fmt.Errorf("protect %s: %w", path, err)
		}
	}
	for _, path := range readOnlyMounts {
		if err := protect(path); err != nil {
			return fmt.Errorf("protect %s: %w", path, err)
		}
	}
	return nil
}

// protect makes a mount of the kernel's files read-only, in this namespace alone.
func protect(path string) error {
	return unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|noSUID|noDev|noExec, "")
}

// makeDevices replaces /dev, by way of the directory at.
func makeDevices(at string) error {
	dev := mount{"tmpfs", at, "tmpfs", noSUID, "mode=0755,size=64k", ""}
	if err := dev.at(at); err != nil {
		return err
	}
	for _, d := range devices {
		path := filepath.Join(at, d.name)
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("make %s: %w", d.name, err)
		}
		if err := os.Chmod(path, 0o666); err != nil { // the umask took bits away
			return err
		}
	}
	for _, l := range deviceLinks {
		if err := os.Symlink(l.target, filepath.Join(at, l.name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"pts", "shm"} {
		target := filepath.Join(at, name)
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(filepath.Join("/dev", name), target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", name, err)
		}
	}
	if err := unix.Unmount("/dev", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("take the old one away: %w", err)
	}
	return unix.Mount(at, "/dev", "", unix.MS_MOVE, "")
}
