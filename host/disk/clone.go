// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// cloneSparse copies src to the new file dst (0600) and keeps its holes; blocks of zeros,
// of which mkfs writes some, become holes too. Where the file system can share blocks, it
// copies nothing at all.
func cloneSparse(ctx context.Context, dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy template: %w", err)
	}
	defer func() { _ = in.Close() }()
	st, err := in.Stat()
	if err != nil {
		return fmt.Errorf("copy template: %w", err)
	}
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create disk: %w", err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(dst))
		}
	}()
	if reflink(out, in) == nil {
		return nil
	}
	if err := out.Truncate(st.Size()); err != nil {
		return fmt.Errorf("set size of disk: %w", err)
	}
	for pos := int64(0); pos < st.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to, err := nextData(in, pos, st.Size())
		if err != nil {
			return fmt.Errorf("find data of template: %w", err)
		}
		if to > from {
			w := &sparseFile{f: out, pos: from, end: from}
			if _, err := io.Copy(w, io.NewSectionReader(in, from, to-from)); err != nil {
				return fmt.Errorf("copy template: %w", err)
			}
		}
		pos = to
	}
	return nil
}
