// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/socket"
)

// directory is <Dir>/krun: all that the VMM and its owner share. The VMM may do
// there what it likes, so whoever else uses it follows no name in it.
type directory struct {
	path string
	dir  *os.File // opened before there is a VMM
	// ready accepts the guest's streams to the host.
	ready *net.UnixListener
	// console is the reading end; hold is a writing end, so that the reader does
	// not see the end before the VMM has opened its own.
	console, hold *os.File
}

// makeDirectory makes it in parent, for user if that is not nil.
func makeDirectory(parent string, user *spec.User) (d *directory, err error) {
	d = &directory{path: filepath.Join(parent, "krun")}
	for _, name := range []string{spec.GuestSocket, spec.ReadySocket} {
		if err := socket.CheckPath(filepath.Join(d.path, name)); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(d.path, 0o700); err != nil {
		return nil, fmt.Errorf("make the VMM's directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.remove())
			d = nil
		}
	}()
	if d.dir, err = os.Open(d.path); err != nil {
		return d, fmt.Errorf("open the VMM's directory: %w", err)
	}
	if d.ready, err = socket.Listen(d.path, spec.ReadySocket); err != nil {
		return d, err
	}
	d.ready.SetUnlinkOnClose(false) // remove does, without following a name
	if err := d.openConsole(); err != nil {
		return d, fmt.Errorf("make the console: %w", err)
	}
	if user == nil {
		return d, nil
	}
	// The directory last: until then it is ours alone.
	for _, path := range []string{filepath.Join(d.path, spec.ReadySocket), filepath.Join(d.path, spec.Console), d.path} {
		if err := os.Lchown(path, int(user.UID), int(user.GID)); err != nil {
			return d, fmt.Errorf("give the VMM its directory: %w", err)
		}
	}
	return d, nil
}

// openConsole opens both ends of a named pipe, the reading one first: that needs
// no writer when it does not block.
func (d *directory) openConsole() error {
	path := filepath.Join(d.path, spec.Console)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	r, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	if runtime.GOOS == "darwin" {
		// Its kqueue does not tell of the last writer's end; a read does.
		if err := unix.SetNonblock(r, false); err != nil {
			return errors.Join(err, unix.Close(r))
		}
	}
	d.console = os.NewFile(uintptr(r), path)
	d.hold, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	return err
}

// remove closes and removes all of it. The VMM must have ended.
func (d *directory) remove() error {
	for _, f := range []*os.File{d.hold, d.console, d.dir} {
		if f != nil {
			_ = f.Close() // the second time it was closed already
		}
	}
	if d.ready != nil {
		_ = d.ready.Close()
	}
	if err := os.RemoveAll(d.path); err != nil {
		return fmt.Errorf("remove the VMM's directory: %w", err)
	}
	return nil
}
