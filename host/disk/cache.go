// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// formatVersion is part of a root disk's file name. Raise it with every change
// that gives other bytes for the same layers.
const formatVersion = 2

// lockRetry is how often a waiting process asks again for a lock that another
// one holds: flock(2) has no wait that a context could end.
const lockRetry = 20 * time.Millisecond

const (
	rootSuffix  = ".ext4"
	buildPrefix = ".building-"
	lockDir     = ".locks"
)

var rootName = regexp.MustCompile(`^([a-z0-9]+)-([0-9a-f]{32,})-v([0-9]+)\.ext4$`)

// Cache keeps root disks by image digest and scratch templates by size. Any
// number of goroutines and processes may use one directory at once.
type Cache struct {
	dir    string
	limits Limits
}

// Open makes dir if it is missing. Zero fields of limits mean the default.
func Open(dir string, limits Limits) (*Cache, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open disk cache: %w", err)
	}
	c := &Cache{dir: abs, limits: limits.orDefaults()}
	if err := c.makeDirs(); err != nil {
		return nil, fmt.Errorf("open disk cache: %w", err)
	}
	return c, nil
}

// makeDirs makes what is missing. The VMM may run as another user than the one who
// builds the disks, so the directory can be entered by all; its contents are image
// data.
func (c *Cache) makeDirs() error { return os.MkdirAll(filepath.Join(c.dir, lockDir), 0o755) }

// Dir is the directory of the cache, absolute.
func (c *Cache) Dir() string { return c.dir }

// Info describes one root disk in the cache.
type Info struct {
	// Key is the image digest that Root was called with.
	Key  digest.Digest
	Path string
	// Size is the size of the block device in bytes, Allocated what it takes
	// on the host's disk.
	Size, Allocated int64
	// LastUse is when Root last returned this disk.
	LastUse time.Time
}

// List returns the finished root disks, the longest unused first.
func (c *Cache) List() ([]Info, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var out []Info
	for _, e := range entries {
		m := rootName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		path := filepath.Join(c.dir, e.Name())
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); errors.Is(err, fs.ErrNotExist) {
			continue // removed since ReadDir
		} else if err != nil {
			return nil, fmt.Errorf("list disks: stat %s: %w", path, err)
		}
		out = append(out, Info{
			Key:  digest.NewDigestFromEncoded(digest.Algorithm(m[1]), m[2]),
			Path: path, Size: st.Size, Allocated: st.Blocks * 512,
			LastUse: time.Unix(st.Mtim.Unix()),
		})
	}
	slices.SortFunc(out, func(a, b Info) int {
		if d := a.LastUse.Compare(b.LastUse); d != 0 {
			return d
		}
		return strings.Compare(a.Path, b.Path)
	})
	return out, nil
}

// Remove deletes the root disk of key. A machine that has it open keeps its
// content; that no machine is about to open it is the caller's care.
func (c *Cache) Remove(ctx context.Context, key digest.Digest) error {
	path, err := c.rootPath(key)
	if err != nil {
		return err
	}
	unlock, err := c.lock(ctx, filepath.Base(path), nil)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove disk %s: %w", key, ErrNotFound)
	} else if err != nil {
		return fmt.Errorf("remove disk %s: %w", key, err)
	}
	return nil
}

func (c *Cache) rootPath(key digest.Digest) (string, error) {
	if err := key.Validate(); err != nil {
		return "", fmt.Errorf("disk key %q: %w", key, err)
	}
	return filepath.Join(c.dir, fmt.Sprintf("%s-%s-v%d%s", key.Algorithm(), key.Encoded(), formatVersion, rootSuffix)), nil
}

// lock takes the lock called name and returns what releases it. waits, which may be
// nil, is called when another holds it. Lock files are never deleted: a waiter could
// otherwise hold a lock that nobody else sees.
func (c *Cache) lock(ctx context.Context, name string, waits func()) (func(), error) {
	// A server runs for months, and people delete what looks like a cache.
	if err := c.makeDirs(); err != nil {
		return nil, fmt.Errorf("lock disk %s: %w", name, err)
	}
	l := flock.New(filepath.Join(c.dir, lockDir, name))
	taken, err := l.TryLock()
	if err == nil && !taken {
		if waits != nil {
			waits()
		}
		_, err = l.TryLockContext(ctx, lockRetry)
	}
	if err != nil {
		return nil, fmt.Errorf("lock disk %s: %w", name, err)
	}
	return func() { _ = l.Close() }, nil
}

// dropLeftovers deletes what a killed process left of building name. The
// caller holds the lock of name.
func (c *Cache) dropLeftovers(name string) error {
	left, err := filepath.Glob(filepath.Join(c.dir, buildPrefix+name+"-*"))
	if err != nil {
		return fmt.Errorf("find unfinished disks: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove unfinished disk: %w", err)
		}
	}
	return nil
}

// publish makes the finished file f, which lies in the cache's directory,
// appear under path as a whole or not at all, power cuts included.
func (c *Cache) publish(f *os.File, path string, mode os.FileMode) error {
	if err := f.Chmod(mode); err != nil {
		return fmt.Errorf("publish disk: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("publish disk: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("publish disk: %w", err)
	}
	d, err := os.Open(c.dir)
	if err != nil {
		return fmt.Errorf("publish disk: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("publish disk: %w", err)
	}
	return nil
}
