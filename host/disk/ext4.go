// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"
	"io"
	"os"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
)

// FromTar makes f, which is empty, an ext4 file system without a journal with what
// the tar stream holds: each directory before what is in it, absolute names. The
// same stream gives the same bytes.
func FromTar(f *os.File, r io.Reader) error {
	out := &sparseFile{f: f}
	if err := tar2ext4.ConvertTarToExt4(r, out, tar2ext4.MaximumDiskSize(maxDisk)); err != nil {
		return fmt.Errorf("write ext4: %w", err)
	}
	return out.finish()
}
