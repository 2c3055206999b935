// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// keep bounds the cache: each rebuilt guestd leaves a file behind.
	keep = 4
	// staleAfter is the age of a file that is being written, which takes seconds
	// at most, from which on its writer is taken for dead.
	staleAfter = time.Hour
)

// Cache holds files of one kind by the hash of their content, and forgets those
// that were not used for longest. It may be used concurrently, also from several
// processes: a file has its name only when it is whole, and whoever comes second
// replaces it by the same bytes.
type Cache struct {
	// Dir may hold other files, and other caches' too. It is made when needed.
	Dir string
	// Kind and Ext name the files: <Kind>-<hash><Ext>.
	Kind, Ext string
	// Mode of the files. The user that the VMM runs as must be able to read them.
	Mode os.FileMode
}

// Get returns the path of the file with this hash, which write makes if it is
// not there.
func (c Cache) Get(hash string, write func(*os.File) error) (string, error) {
	path := filepath.Join(c.Dir, c.Kind+"-"+hash+c.Ext)
	now := time.Now()
	if os.Chtimes(path, now, now) == nil { // also marks it as used, for prune
		return path, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", fmt.Errorf("create %s cache: %w", c.Kind, err)
	}
	if err := c.writeFile(path, write); err != nil {
		return "", fmt.Errorf("write %s: %w", c.Kind, err)
	}
	return path, c.prune()
}

// writeFile writes the file beside path and renames it.
func (c Cache) writeFile(path string, write func(*os.File) error) (err error) {
	tmp, err := os.CreateTemp(c.Dir, c.temp())
	if err != nil {
		return err
	}
	defer func() {
		_ = tmp.Close() // a second close after success fails, and does no harm
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	if err := write(tmp); err != nil {
		return err
	}
	if err := tmp.Chmod(c.Mode); err != nil {
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

func (c Cache) temp() string { return "." + c.Kind + "-*.tmp" }

// prune removes all but the last used files. Removing one that a VMM still has
// open does no harm.
func (c Cache) prune() error {
	paths, err := filepath.Glob(filepath.Join(c.Dir, c.Kind+"-*"+c.Ext))
	if err != nil {
		return fmt.Errorf("list %s cache: %w", c.Kind, err)
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
	stale, err := filepath.Glob(filepath.Join(c.Dir, c.temp()))
	if err != nil {
		return fmt.Errorf("list %s cache: %w", c.Kind, err)
	}
	for _, path := range stale { // left by a process that was killed
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(path)
		}
	}
	return nil
}
