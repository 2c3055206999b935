// SPDX-License-Identifier: Apache-2.0

package tartree

import (
	"os"
	"syscall"
)

// openRegular opens a file for reading that was regular a moment ago. O_NONBLOCK
// keeps a FIFO in its place from blocking the open.
func openRegular(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
}
