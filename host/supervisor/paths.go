// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// Names in a machine's directory.
const (
	controlSocket = "supervisor.sock"
	guestSocket   = "guestd.sock"
	recordFile    = "vm.json"
	consoleFile   = "console.log"
	logFile       = "supervisor.log"
)

// maxSocketPath is the longest path of a Unix socket in bytes that every system
// here takes: macOS has room for 103 and a terminating zero.
const maxSocketPath = 103

// checkSocketPath says in words what the kernel would say with EINVAL.
func checkSocketPath(path string) error {
	if over := len(path) - maxSocketPath; over > 0 {
		return fmt.Errorf("the run directory is too long for a socket: %s has %d bytes, at most %d; "+
			"set WAGGLE_RUN_DIR to a directory whose path is %d bytes shorter",
			path, len(path), maxSocketPath, over)
	}
	return nil
}

// listen makes a socket that only its owner can open.
func listen(dir, name string) (*net.UnixListener, error) {
	path := filepath.Join(dir, name)
	if err := checkSocketPath(path); err != nil {
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

// ConsolePath is the console log of the machine in dir.
func ConsolePath(dir string) string { return filepath.Join(dir, consoleFile) }

// LogPath is the log of the supervisor in dir.
func LogPath(dir string) string { return filepath.Join(dir, logFile) }
