// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"path/filepath"

	"github.com/stacklok/waggle/host/socket"
)

// Names in a machine's directory.
const (
	controlSocket = "supervisor.sock"
	guestSocket   = "guestd.sock"
	recordFile    = "vm.json"
	consoleFile   = "console.log"
	logFile       = "supervisor.log"
)

// CheckRunDir says whether the sockets of machine id have room in runDir.
func CheckRunDir(runDir, id string) error {
	return socket.CheckPath(ControlPath(runDir, id))
}

// ControlPath is the socket of the control API of machine id; no other has a longer
// path.
func ControlPath(runDir, id string) string { return filepath.Join(runDir, id, controlSocket) }

// ConsolePath is the console log of the machine in dir.
func ConsolePath(dir string) string { return filepath.Join(dir, consoleFile) }

// LogPath is the log of the supervisor in dir.
func LogPath(dir string) string { return filepath.Join(dir, logFile) }
