// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// formatVersion changes the hash when Write changes.
	formatVersion = "1"
	// keep bounds the cache: each rebuilt guestd leaves an archive behind.
	keep    = 4
	pattern = "initramfs-*.cpio"
	// tempPattern is for archives that are being written, which takes seconds
	// at most.
	tempPattern = ".initramfs-*.tmp"
	staleAfter  = time.Hour
)

// Cached returns the path of an archive of c in dir, which is written if it is
// not there. It may be called concurrently, also from several processes: an
// archive has its name only when it is whole, and whoever comes second replaces
// it by the same bytes.
func Cached(dir string, c Content) (string, error) {
	hash, err := contentHash(c)
	if err != nil {
		return "", fmt.Errorf("hash initramfs content: %w", err)
	}
	path := filepath.Join(dir, "initramfs-"+hash+".cpio")
	now := time.Now()
	if os.Chtimes(path, now, now) == nil { // also marks it as used, for prune
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("create initramfs cache: %w", err)
	}
	if err := writeFile(path, c); err != nil {
		return "", fmt.Errorf("write initramfs: %w", err)
	}
	return path, prune(dir)
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

// writeFile writes the archive beside path and renames it.
func writeFile(path string, c Content) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), tempPattern)
	if err != nil {
		return err
	}
	defer func() {
		_ = tmp.Close() // a second close after success fails, and does no harm
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	w := bufio.NewWriterSize(tmp, 1<<20)
	if err := Write(w, c); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	// Readable by the uid that the VMM runs as.
	if err := tmp.Chmod(0o644); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// prune removes all but the last used archives. Removing one that a VMM still
// maps does no harm.
func prune(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return fmt.Errorf("list initramfs cache: %w", err)
	}
	used := make(map[string]time.Time, len(paths))
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil { // else another process removed it
			used[path] = info.ModTime()
		}
	}
	slices.SortFunc(paths, func(a, b string) int {
		return cmp.Or(used[b].Compare(used[a]), cmp.Compare(a, b))
	})
	for _, path := range paths[min(keep, len(paths)):] {
		_ = os.Remove(path) // the next call tries again
	}
	stale, err := filepath.Glob(filepath.Join(dir, tempPattern))
	if err != nil {
		return fmt.Errorf("list initramfs cache: %w", err)
	}
	for _, path := range stale { // left by a process that was killed
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(path)
		}
	}
	return nil
}
