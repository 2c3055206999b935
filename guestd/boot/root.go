// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/identity"
)

const (
	newRoot = "/newroot"
	// StateDir belongs to guestd alone.
	StateDir = "/run/waggle"
	// scratchDir is where the scratch disk ends up.
	scratchDir = StateDir + "/scratch"
)

// disks returns the block devices of the image and of the scratch disk: the
// first two virtio disks but for the one that guestd itself was started from.
func disks() (image, scratch string, err error) {
	var here unix.Stat_t
	if err := unix.Stat("/", &here); err != nil {
		return "", "", fmt.Errorf("stat /: %w", err)
	}
	paths, err := filepath.Glob("/dev/vd[a-z]")
	if err != nil {
		return "", "", fmt.Errorf("list disks: %w", err)
	}
	var found []string
	for _, path := range paths {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return "", "", fmt.Errorf("stat %s: %w", path, err)
		}
		if st.Rdev != here.Dev {
			found = append(found, path)
		}
	}
	switch len(found) {
	case 0:
		return "", "", nil
	case 1:
		return "", "", fmt.Errorf("only disk %s found: want the image and a scratch disk", found[0])
	}
	return found[0], found[1], nil
}

// Where the layers of the overlay are mounted.
const (
	lowerDir = "/image"
	upperDir = "/scratch"
)

// layRoot lays the scratch disk over the image.
func layRoot(image, scratch string) error {
	table := []mount{
		{image, lowerDir, "ext4", unix.MS_RDONLY, "", ""},
		// What is deleted in the guest is given back to the host. The blocks that
		// mkfs has set aside are for guestd: not for root, in whose name the
		// overlay writes for everybody.
		{scratch, upperDir, "ext4", unix.MS_NOATIME, fmt.Sprintf("discard,resuid=%d", identity.UID), ""},
	}
	if err := mountAll("/", table); err != nil {
		return err
	}
	return layOverlay(lowerDir)
}

// layMemory lays memory over a boot disk that cannot be written, for a machine
// without an image.
func layMemory() error {
	memory := mount{"tmpfs", upperDir, "tmpfs", noSUID | noDev, "mode=0755,size=50%", ""}
	if err := mountAll("/", []mount{memory}); err != nil {
		return err
	}
	return layOverlay("/")
}

// layOverlay mounts lower with upperDir over it on newRoot, together with the table
// of systemMounts.
func layOverlay(lower string) error {
	for _, dir := range []string{"upper", "work", "state"} {
		if err := os.MkdirAll(filepath.Join(upperDir, dir), 0o755); err != nil {
			return fmt.Errorf("prepare scratch disk: %w", err)
		}
	}
	// Without redirect_dir a rename of a directory of the image fails with
	// EXDEV, which package managers do not expect.
	overlay := mount{"overlay", newRoot, "overlay", 0,
		"lowerdir=" + lower + ",upperdir=" + upperDir + "/upper,workdir=" + upperDir + "/work,redirect_dir=on", ""}
	if err := mountAll("/", []mount{overlay}); err != nil {
		return err
	}
	if err := moveMounts(); err != nil {
		return err
	}
	if err := mountAll(newRoot, systemMounts); err != nil {
		return err
	}
	if err := makeStateDir(newRoot); err != nil {
		return err
	}
	target := newRoot + scratchDir
	if err := os.MkdirAll(target, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", target, err)
	}
	if err := unix.Mount(upperDir, target, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to %s: %w", upperDir, target, err)
	}
	return nil
}

func moveMounts() error {
	for _, m := range kernelMounts {
		target := filepath.Join(newRoot, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("make mount point of %s: %w", m, err)
		}
		if err := unix.Mount(m.target, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s to %s: %w", m, target, err)
		}
	}
	return nil
}

// makeStateDir makes StateDir below root, closed to the workload.
func makeStateDir(root string) error {
	if err := os.MkdirAll(filepath.Join(root, StateDir), 0o700); err != nil {
		return fmt.Errorf("make %s: %w", StateDir, err)
	}
	return nil
}

// switchRoot makes newRoot the root of this process. The mount is moved: after
// a bare chroot the kernel refuses user namespaces (user_namespaces(7)).
func switchRoot(log *slog.Logger) error {
	freeInitramfs(log)
	if err := unix.Chdir(newRoot); err != nil {
		return fmt.Errorf("chdir %s: %w", newRoot, err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", newRoot, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir /: %w", err)
	}
	return nil
}

// readOnly says whether the root cannot be written, as that of a boot disk.
func readOnly() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil {
		return false, fmt.Errorf("look at the root's file system: %w", err)
	}
	return st.Flags&unix.ST_RDONLY != 0, nil
}

// freeInitramfs gives back the memory of the files of an initial file system. A
// boot disk is left alone.
func freeInitramfs(log *slog.Logger) {
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil || (st.Type != unix.RAMFS_MAGIC && st.Type != unix.TMPFS_MAGIC) {
		return
	}
	for _, path := range []string{waggleDir, "/init"} {
		// Memory is all that is lost when it fails.
		if err := os.RemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Warn("initramfs not freed", slog.String("path", path), slog.Any("err", err))
		}
	}
}
