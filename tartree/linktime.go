// SPDX-License-Identifier: Apache-2.0

package tartree

import (
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// linkTime sets the time of a symbolic link itself, which os.Root cannot. Its
// directory is opened through root, and its name is not followed.
func linkTime(root *os.Root, name string, at time.Time) error {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	modified, err := unix.TimeToTimespec(at)
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: name, Err: err}
	}
	accessed := unix.NsecToTimespec(time.Now().UnixNano())
	err = unix.UtimesNanoAt(int(dir.Fd()), path.Base(name), []unix.Timespec{accessed, modified}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: name, Err: err}
	}
	return nil
}
