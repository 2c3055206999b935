// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
)

// dialOnce connects to the VMM's socket. The VMM owns the directory, so what the
// name means is settled first, without following anything, and the connection is
// made to just that: a VMM that was taken over cannot send its owner, who may be
// root, to another socket of the host's.
func (d *directory) dialOnce(ctx context.Context) (net.Conn, error) {
	fd, err := unix.Openat2(int(d.dir.Fd()), spec.GuestSocket, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS |
			unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, fmt.Errorf("look up the VMM's socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look up the VMM's socket: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, errNotSocket
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
}
