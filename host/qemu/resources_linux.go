// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vmm"
)

// resources are the descriptors of a machine that is about to start. Both ends
// of every channel are here; inherit has QEMU's.
type resources struct {
	inherit []*os.File
	vsock   *net.UnixConn
	console *net.UnixConn
	qmp     *net.UnixConn
}

// pass makes f one of QEMU's descriptors, and tells its number there.
func (r *resources) pass(f *os.File) int {
	r.inherit = append(r.inherit, f)
	return vmm.FirstFD + len(r.inherit) - 1
}

// closeInherited is for when QEMU has its copies: only then does the end of
// QEMU show as EOF on our ends.
func (r *resources) closeInherited() {
	for _, f := range r.inherit {
		_ = f.Close() // nothing was written through it
	}
	r.inherit = nil
}

// close releases all of it.
func (r *resources) close() {
	r.closeInherited()
	for _, c := range []*net.UnixConn{r.vsock, r.console, r.qmp} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// open fills l's descriptors for spec. reopen: QEMU runs as someone else.
func (r *resources) open(l *layout, spec vm.Spec, kernel, initrd string, reopen bool) error {
	var err error
	if l.kernelFD, err = r.passImage(kernel, reopen); err != nil {
		return fmt.Errorf("open kernel: %w", err)
	}
	if l.initrdFD, err = r.passImage(initrd, reopen); err != nil {
		return fmt.Errorf("open initramfs: %w", err)
	}
	for _, disk := range spec.Disks {
		fd, err := r.passDisk(disk)
		if err != nil {
			return fmt.Errorf("open disk: %w", err)
		}
		l.disks = append(l.disks, diskFD{fd: fd, readOnly: disk.ReadOnly})
	}
	if spec.NIC != nil {
		file, err := spec.NIC.Conn.File()
		if err != nil {
			return fmt.Errorf("take over network connection: %w", err)
		}
		l.nicFD, l.mac = r.pass(file), spec.NIC.MAC
	}
	if r.vsock, l.vsockFD, err = r.channel("vsock"); err != nil {
		return err
	}
	if r.console, l.consoleFD, err = r.channel("console"); err != nil {
		return err
	}
	r.qmp, l.qmpFD, err = r.channel("qmp")
	return err
}

// channel makes a socket pair and passes one end on.
func (r *resources) channel(name string) (*net.UnixConn, int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("create %s socket: %w", name, err)
	}
	theirs := r.pass(os.NewFile(uintptr(fds[1]), name))
	ours := os.NewFile(uintptr(fds[0]), name)
	defer ours.Close() // FileConn duplicates it
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, 0, fmt.Errorf("create %s socket: %w", name, err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, 0, fmt.Errorf("create %s socket: got a %T", name, conn)
	}
	return unixConn, theirs, nil
}

func (r *resources) passDisk(disk vm.Disk) (int, error) {
	flags := os.O_RDWR
	if disk.ReadOnly {
		flags = os.O_RDONLY
	}
	file, err := os.OpenFile(disk.Path, flags, 0)
	if err != nil {
		return 0, err
	}
	fd := r.pass(file)
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() && info.Mode().Type() != os.ModeDevice {
		return 0, fmt.Errorf("%s is neither a file nor a block device", disk.Path)
	}
	return fd, nil
}

// passImage passes a file that QEMU opens again through /proc/self/fd, where
// only the file's own mode counts. One that QEMU's user may not read (Ubuntu's
// /boot/vmlinuz) is copied to memory.
func (r *resources) passImage(path string, reopen bool) (int, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return 0, errors.Join(err, file.Close())
	}
	if !reopen || info.Mode().Perm()&0o004 != 0 {
		return r.pass(file), nil
	}
	defer file.Close()
	fd, err := unix.MemfdCreate("waggle-image", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("create memory file: %w", err)
	}
	image := os.NewFile(uintptr(fd), path)
	n := r.pass(image)
	if _, err := io.Copy(image, file); err != nil {
		return 0, fmt.Errorf("copy %s: %w", path, err)
	}
	return n, nil
}
