// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package krun

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/stacklok/waggle/host/krun/spec"
)

// dialOnce connects to the VMM's socket. There is no jail here, so a VMM that was
// taken over needs no such detour; a link is refused all the same.
func (d *directory) dialOnce(ctx context.Context) (net.Conn, error) {
	path := filepath.Join(d.path, spec.GuestSocket)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("look up the VMM's socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return nil, errNotSocket
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", path)
}
