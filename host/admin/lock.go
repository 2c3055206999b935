// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Names in a run directory. No environment can have one of them: ids hold no dot.
const (
	lockFile   = "waggle.lock"
	socketFile = "waggle.sock"
)

// SocketPath is the socket of the server of a run directory.
func SocketPath(runDir string) string { return filepath.Join(runDir, socketFile) }

// whoTimeout bounds the question who holds the lock.
const whoTimeout = time.Second

// ErrVanished is a run directory that is not the one of the lock any more.
var ErrVanished = errors.New("the run directory was removed or replaced while the server runs: " +
	"what ran in it cannot be reached; start `waggle serve` again")

// Lock makes this process the only server of a run directory.
type Lock struct {
	dir  string
	file *flock.Flock
}

// HeldError is a run directory that another server owns.
type HeldError struct {
	RunDir string
	// PID of the owner, 0 when it is not known.
	PID int
	// URL of its MCP endpoint, empty when it did not say.
	URL string
}

// Error names the owner and what to do.
func (e *HeldError) Error() string {
	who, kill := "a process", "end it"
	if e.PID != 0 {
		who, kill = fmt.Sprintf("pid %d", e.PID), fmt.Sprintf("end it with `kill %d`", e.PID)
	}
	if e.URL != "" {
		who += ", " + e.URL
	}
	return fmt.Sprintf("another server (%s) has the run directory %s: use that one, %s, "+
		"or give this one a directory of its own with WAGGLE_RUN_DIR", who, e.RunDir, kill)
}

// Acquire takes the lock of a run directory, which exists and is private. It
// does not wait: a lock that another server holds is a HeldError.
func Acquire(ctx context.Context, runDir string) (*Lock, error) {
	path := filepath.Join(runDir, lockFile)
	l := &Lock{dir: runDir, file: flock.New(path)}
	ok, err := l.file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the run directory: %w; set WAGGLE_RUN_DIR to a directory on a local disk", err)
	}
	if !ok {
		return nil, who(ctx, runDir)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the run directory: %w", err), l.Close())
	}
	return l, nil
}

// Check says whether the run directory still is the one that was locked.
func (l *Lock) Check() error {
	held, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("check the run directory: %w", err)
	}
	there, err := os.Lstat(filepath.Join(l.dir, lockFile))
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(held, there):
		return fmt.Errorf("%s: %w", l.dir, ErrVanished)
	case err != nil:
		return fmt.Errorf("check the run directory: %w", err)
	}
	return nil
}

// Close gives the run directory back.
func (l *Lock) Close() error { return l.file.Close() }

// who asks the owner for its address; a pid it has left in the file.
func who(ctx context.Context, runDir string) *HeldError {
	held := &HeldError{RunDir: runDir, PID: ownerPID(runDir)}
	askCtx, cancel := context.WithTimeout(ctx, whoTimeout)
	defer cancel()
	if status, err := Status(askCtx, runDir); err == nil {
		held.PID, held.URL = int(status.GetPid()), status.GetMcpUrl()
	}
	return held
}

// ownerPID is the pid of the last server that took the lock, 0 when unknown.
func ownerPID(runDir string) int {
	text, err := os.ReadFile(filepath.Join(runDir, lockFile))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
