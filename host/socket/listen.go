// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// MaxPath is the longest path of a Unix socket in bytes that every system here
// takes: macOS has room for 103 and a terminating zero.
const MaxPath = 103

// CheckPath says in words what the kernel would say with EINVAL.
func CheckPath(path string) error {
	if over := len(path) - MaxPath; over > 0 {
		return fmt.Errorf("the run directory is too long for a socket: %s has %d bytes, at most %d; "+
			"set WAGGLE_RUN_DIR to a directory whose path is %d bytes shorter",
			path, len(path), MaxPath, over)
	}
	return nil
}

// Listen makes a socket that only its owner can open. dir is private (0700), so
// that nobody else can come before the mode is set.
func Listen(dir, name string) (*net.UnixListener, error) {
	path := filepath.Join(dir, name)
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}
