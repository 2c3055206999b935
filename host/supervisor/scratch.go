// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// scratchSuffix ends the name of a scratch disk, which begins with the machine's
// id.
const scratchSuffix = ".ext4"

// lockRetry is how often a lock that another process holds is asked for again:
// flock(2) has no wait that a context could end.
const lockRetry = 5 * time.Millisecond

// scratchLock is the file whose lock says that the machine of a disk lives. It is
// not the disk itself: on NFS that lock would keep QEMU out, which has its own.
func scratchLock(path string) string { return path + ".lock" }

// holdScratch makes the machine's disk and holds it until release: a lock beside
// it tells everybody, whatever run directory, user or pid namespace they are in,
// that its machine lives. The kernel drops it with the process. release also
// removes the disk.
func holdScratch(ctx context.Context, path string, makeDisk func() error) (release func() error, err error) {
	// A sweep must not come between the lock's file and the lock.
	unlock, err := lockDir(ctx, filepath.Dir(path), false)
	if err != nil {
		return nil, err
	}
	defer unlock()
	held := flock.New(scratchLock(path))
	ok, err := held.TryLock()
	if err == nil && !ok {
		err = errors.New("another machine has it")
	}
	if err != nil {
		return nil, fmt.Errorf("lock scratch disk %s: %w", path, err)
	}
	if err := makeDisk(); err != nil {
		return nil, errors.Join(err, os.Remove(scratchLock(path)), held.Close())
	}
	return func() error { return errors.Join(removeScratch(path), held.Close()) }, nil
}

// removeScratch removes a disk and its lock's file; missing ones are no error.
func removeScratch(path string) error {
	for _, p := range []string{path, scratchLock(path)} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// SweepScratch removes the disks in dir that no machine holds: their supervisors
// were killed, or the whole host went down. It returns their paths, and the
// bytes that they took.
func SweepScratch(ctx context.Context, dir string) (removed []string, freed int64, err error) {
	unlock, err := lockDir(ctx, dir, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("sweep scratch disks: %w", err)
	}
	defer unlock()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("sweep scratch disks: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".lock") // one may be left alone
		id, disk := strings.CutSuffix(name, scratchSuffix)
		if !disk || !e.Type().IsRegular() || CheckID(id) != nil {
			continue
		}
		path := filepath.Join(dir, name)
		n, err := removeUnheld(path)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("sweep scratch disk %s: %w", path, err))
		case n >= 0:
			removed, freed = append(removed, path), freed+n
		}
	}
	return removed, freed, errors.Join(errs...)
}

// removeUnheld removes a disk whose machine does not live, and returns the bytes
// that it took, or -1 when there was none to remove. The caller keeps new disks
// away.
func removeUnheld(path string) (int64, error) {
	held := flock.New(scratchLock(path))
	if ok, err := held.TryLock(); err != nil || !ok {
		return -1, err
	}
	defer func() { _ = held.Close() }()
	size := int64(-1)
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); {
	case err == nil:
		size = st.Blocks * 512
	case !errors.Is(err, fs.ErrNotExist):
		return -1, err
	}
	return size, removeScratch(path)
}

// lockDir locks a directory itself, shared or alone. Whoever makes something in
// it shares the lock until others can see that it lives; a sweep has it alone.
func lockDir(ctx context.Context, dir string, alone bool) (unlock func(), err error) {
	l := flock.New(dir, flock.SetFlag(os.O_RDONLY))
	take := l.TryRLockContext
	if alone {
		take = l.TryLockContext
	}
	if _, err := take(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { _ = l.Close() }, nil
}
