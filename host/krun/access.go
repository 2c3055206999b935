// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// AccessError is a file that is there, and that the VMM's user may not use. What
// the file is for is the caller's to say.
type AccessError struct {
	Path string
	Mode os.FileMode
	// Run is a program, which has to be executable too.
	Run bool
	// Other is a VMM that runs as another user than the caller.
	Other bool
}

func (e *AccessError) Error() string {
	who, what := "you", "read it"
	if e.Other {
		who = "the VMM runs as a user of its own, which"
	}
	if e.Run {
		what = "read and run it"
	}
	return fmt.Sprintf("%s: %s may not %s (mode %04o): run `%s`", e.Path, who, what, e.Mode, e.Remedy())
}

// Remedy is the command that mends it.
func (e *AccessError) Remedy() string {
	command := "chmod a+r"
	if e.Run {
		command += "x"
	}
	if !e.Other { // what is not the caller's own is root's
		command = "sudo " + command
	}
	return command + " " + e.Path
}

// checkAccess says whether a machine's VMM may read the file, and run it. Root gives
// each VMM a user that no file belongs to, so the rights of others decide then;
// the directories above do not, because the first stage opens the file as root.
func checkAccess(path string, run bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err // names the path
	}
	e := &AccessError{Path: path, Mode: info.Mode().Perm(), Run: run}
	need, mode := os.FileMode(0o4), uint32(unix.R_OK)
	if run {
		need, mode = 0o5, unix.R_OK|unix.X_OK
	}
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		if e.Other = true; e.Mode&need != need {
			return e
		}
		return nil
	}
	switch err := unix.Access(path, mode); {
	case errors.Is(err, unix.EACCES):
		return e
	case err != nil:
		return &os.PathError{Op: "access", Path: path, Err: err}
	}
	return nil
}
