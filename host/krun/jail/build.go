// SPDX-License-Identifier: Apache-2.0

//go:build linux

package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
)

// sealed are the flags of every mount but where something needs less.
const sealed = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// Sizes of the two file systems in memory. A guest can fill the second one.
const (
	rootOptions = "mode=755,size=256k,nr_inodes=1k"
	tempOptions = "mode=700,size=1m,nr_inodes=256"
)

// refusedError is a step that needs a right which the namespaces did not bring, as
// where AppArmor restricts them.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// build makes the jail at stage, an existing directory that only this mount
// namespace covers, and moves into it. After a refusal nothing is left mounted.
func (p *plan) build(stage string, user *spec.User) error {
	// Nothing that is mounted here shall show outside.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return refused("make mounts private", err)
	}
	if err := mount("tmpfs", stage, "tmpfs", sealed, rootOptions); err != nil {
		return refused("mount the root", err)
	}
	if err := p.fill(stage, user); err != nil {
		return errors.Join(err, unix.Unmount(stage, unix.MNT_DETACH))
	}
	return enter(stage)
}

func (p *plan) fill(stage string, user *spec.User) error {
	// First what may be refused where all else works: in a container that hides
	// parts of its /proc.
	if err := mountProc(filepath.Join(stage, procPath)); err != nil {
		return err
	}
	temp := filepath.Join(stage, tempPath)
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	options := tempOptions
	if user != nil {
		options += fmt.Sprintf(",uid=%d,gid=%d", user.UID, user.GID)
	}
	if err := mount("tmpfs", temp, "tmpfs", sealed, options); err != nil {
		return refused("mount "+tempPath, err)
	}
	for _, s := range p.sources {
		if err := s.bind(stage); err != nil {
			return err
		}
	}
	return nil
}

// mountProc shows the processes of the namespace, and where the kernel can
// (5.8) nothing else.
func mountProc(target string) error {
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	err := mount("proc", target, "proc", sealed|unix.MS_RDONLY, "subset=pid")
	if errors.Is(err, unix.EINVAL) {
		err = mount("proc", target, "proc", sealed|unix.MS_RDONLY, "")
	}
	return refused("mount "+procPath, err)
}

// bind shows the source at its target. The flags come in a second call: the first
// ignores them.
func (s *source) bind(stage string) error {
	target := filepath.Join(stage, s.target)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if err := s.place(target); err != nil {
		return err
	}
	if err := mount(descriptorPath(s.fd), target, "", unix.MS_BIND, ""); err != nil {
		return refused("show "+s.what+" at "+s.target, err)
	}
	flags, err := mountFlags(target)
	if err != nil {
		return fmt.Errorf("show %s: %w", s.what, err)
	}
	switch s.kind {
	case code:
		flags |= unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	case readOnly:
		flags |= unix.MS_RDONLY | sealed
	case writable, directory:
		flags |= sealed
	case device:
		flags |= unix.MS_NOSUID | unix.MS_NOEXEC
	}
	// A disk may be a block device.
	if s.kind == readOnly || s.kind == writable {
		var st unix.Stat_t
		if err := unix.Fstat(s.fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			flags &^= unix.MS_NODEV
		}
	}
	if err := mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
		return refused("restrict "+s.what+" at "+s.target, err)
	}
	return nil
}

// place makes what the source is mounted on.
func (s *source) place(target string) error {
	if s.kind == directory {
		return os.Mkdir(target, 0o755)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// mountFlags are those that target has. In a user namespace they are locked: a
// remount that leaves one out is refused.
func mountFlags(target string) (uintptr, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		return 0, err
	}
	// The bits of statfs(2) are those of mount(2) but for one.
	have := uintptr(st.Flags)
	flags := have & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	if have&unix.ST_RELATIME != 0 {
		flags |= unix.MS_RELATIME
	}
	return flags, nil
}

// enter makes stage the root and forgets the old one.
func enter(stage string) error {
	if err := unix.Chdir(stage); err != nil {
		return fmt.Errorf("enter the jail: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot into the jail: %w", err)
	}
	// The old root lies over the new one now.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the jail: %w", err)
	}
	if err := mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|sealed, ""); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	return unix.Mount(source, target, fstype, flags, data)
}

// refused wraps err for the step. Where it is for want of a right, the jail is
// another one.
func refused(step string, err error) error {
	if err == nil {
		return nil
	}
	named := fmt.Errorf("%s: %w", step, err)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return &refusedError{named}
	}
	return named
}

func descriptorPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
