// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stacklok/waggle/host/vmm"
)

// formatVersion changes the hash when Write changes.
const formatVersion = "1"

// Cached returns the path of an archive of c in dir, which is written if it is
// not there. It may be called concurrently; see vmm.Cache.
func Cached(dir string, c Content) (string, error) {
	hash, err := contentHash(c)
	if err != nil {
		return "", fmt.Errorf("hash initramfs content: %w", err)
	}
	cache := vmm.Cache{Dir: dir, Kind: "initramfs", Ext: ".cpio", Mode: 0o644}
	return cache.Get(hash, func(f *os.File) error {
		w := bufio.NewWriterSize(f, 1<<20)
		if err := Write(w, c); err != nil {
			return err
		}
		return w.Flush()
	})
}

func contentHash(c Content) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d:%s\n", formatVersion, len(c.GuestdInfo), c.GuestdInfo)
	for _, path := range append([]string{c.Guestd}, c.Modules...) {
		file, err := os.Open(path)
		if err != nil {
			return "", err
		}
		info, err := file.Stat()
		if err == nil {
			fmt.Fprintf(h, "%s:%d\n", filepath.Base(path), info.Size())
			_, err = io.Copy(h, file)
		}
		_ = file.Close() // only read
		if err != nil {
			return "", fmt.Errorf("read %s: %w", path, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}
