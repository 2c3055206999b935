// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Grace is how long after Root has returned it a disk may still be on its way into a
// machine that nobody has heard of yet.
const Grace = 5 * time.Minute

// Unneeded says whether nothing wants the disk: no image that may boot from it, in the
// present format, and no machine that does. images and machines are by the digest of the
// image.
func (c *Cache) Unneeded(d Info, images, machines map[digest.Digest]bool) bool {
	if machines[d.Key] {
		return false
	}
	current, err := c.rootPath(d.Key)
	return err != nil || current != d.Path || !images[d.Key]
}

// Prune deletes the disks that are Unneeded and were last used before, and returns them.
// One that somebody is asking for now is left. Killed in the middle, it has deleted some.
func (c *Cache) Prune(images, machines map[digest.Digest]bool, before time.Time) ([]Info, error) {
	all, err := c.List()
	if err != nil {
		return nil, err
	}
	var removed []Info
	for _, d := range all {
		if !c.Unneeded(d, images, machines) {
			continue
		}
		gone, err := c.pruneOne(d, before)
		if err != nil {
			return removed, fmt.Errorf("remove disk %s: %w", d.Key, err)
		}
		if gone {
			removed = append(removed, d)
		}
	}
	return removed, nil
}

// pruneOne looks at the last use under the lock of the disk. Root marks a disk without
// the lock when it is there: between our look and the removal lies no more than that.
func (c *Cache) pruneOne(d Info, before time.Time) (bool, error) {
	l := flock.New(filepath.Join(c.dir, lockDir, filepath.Base(d.Path)))
	if ok, err := l.TryLock(); err != nil || !ok {
		return false, err
	}
	defer func() { _ = l.Close() }()
	var st unix.Stat_t
	err := unix.Lstat(d.Path, &st)
	if err == nil && !time.Unix(st.Mtim.Unix()).Before(before) {
		return false, nil
	}
	if err == nil {
		err = os.Remove(d.Path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
