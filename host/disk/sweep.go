// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// Sweep deletes what killed processes left of the disks that they were building,
// and returns the paths and the bytes that they took. What is being built now is
// left alone.
func (c *Cache) Sweep() (removed []string, freed int64, err error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, 0, fmt.Errorf("sweep disks: %w", err)
	}
	for _, e := range entries {
		// .building-NAME-RANDOM. Layers are unlinked at once and never locked.
		rest, building := strings.CutPrefix(e.Name(), buildPrefix)
		end := strings.LastIndexByte(rest, '-')
		if !building || end < 0 || !strings.HasSuffix(rest[:end], rootSuffix) {
			continue
		}
		path := filepath.Join(c.dir, e.Name())
		n, err := c.sweepOne(path, rest[:end])
		if err != nil {
			return removed, freed, fmt.Errorf("sweep disks: %w", err)
		}
		if n >= 0 {
			removed, freed = append(removed, path), freed+n
		}
	}
	return removed, freed, nil
}

// sweepOne deletes the file at path, unless somebody builds the disk called
// name: then it returns -1.
func (c *Cache) sweepOne(path, name string) (int64, error) {
	l := flock.New(filepath.Join(c.dir, lockDir, name))
	if ok, err := l.TryLock(); err != nil || !ok {
		return -1, err
	}
	defer func() { _ = l.Close() }()
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	return st.Blocks * 512, err
}
