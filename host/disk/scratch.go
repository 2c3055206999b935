// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// scratchVersion changes with the features of the scratch file system.
	scratchVersion = 2
	// MinScratchMiB and MaxScratchMiB (4 TiB) bound the size of a scratch disk.
	MinScratchMiB = 16
	MaxScratchMiB = 4 << 20

	// What is set aside for guestd, which keeps the output of commands there: a
	// command that fills the disk must not cost the next one its output. A part
	// of the disk, and at most so much.
	reservePart   = 64
	maxReserveMiB = 64
)

// scratchArgs make a file system that a guest can write at once and that costs
// the host next to nothing:
//
//   - no journal, because the disk is thrown away with its machine;
//   - no checksums, which cost the guest time under emulation, and without
//     them no thread in the guest that zeroes inode tables in the background
//     and so fills the sparse file;
//   - no blocks kept for growing;
//   - uuid and hash seed fixed: all copies of a template have the same anyway.
var scratchArgs = []string{
	"-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-L", "scratch",
	"-O", "none,extent,filetype,dir_index,sparse_super,large_file,huge_file,flex_bg,extra_isize,dir_nlink,ext_attr",
	"-E", "discard,root_owner=0:0,hash_seed=77616767-6c65-4000-8000-000000000001",
	"-U", "77616767-6c65-4000-8000-000000000002",
}

// Scratch makes an empty writable file system of sizeMiB at path, which must
// not exist. The first of a size is made by mkfs.ext4 and kept as a template;
// the others are sparse copies of it. After an error nothing is left at path.
func (c *Cache) Scratch(ctx context.Context, path string, sizeMiB int) error {
	if sizeMiB < MinScratchMiB || sizeMiB > MaxScratchMiB {
		return fmt.Errorf("scratch disk of %d MiB: choose a size from %d to %d MiB", sizeMiB, MinScratchMiB, MaxScratchMiB)
	}
	template, err := c.scratchTemplate(ctx, sizeMiB)
	if err != nil {
		return fmt.Errorf("make scratch disk: %w", err)
	}
	if err := cloneSparse(ctx, path, template); err != nil {
		return fmt.Errorf("make scratch disk: %w", noSpace(err, filepath.Dir(path), 1<<20))
	}
	return nil
}

func (c *Cache) scratchTemplate(ctx context.Context, sizeMiB int) (string, error) {
	path := filepath.Join(c.dir, fmt.Sprintf("scratch-%d-v%d.ext4", sizeMiB, scratchVersion))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	unlock, err := c.lock(ctx, filepath.Base(path), nil)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := c.dropLeftovers(filepath.Base(path)); err != nil {
		return "", err
	}
	return path, c.makeTemplate(ctx, path, int64(sizeMiB)<<20)
}

func (c *Cache) makeTemplate(ctx context.Context, path string, size int64) (err error) {
	mkfs, err := findMkfs()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(c.dir, buildPrefix+filepath.Base(path)+"-")
	if err != nil {
		return noSpace(err, c.dir, 1<<20)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if rerr := os.Remove(f.Name()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("set size of template: %w", err)
	}
	args := append(scratchArgs[:len(scratchArgs):len(scratchArgs)], "-m", reservedPercent(size>>20), f.Name())
	cmd := exec.CommandContext(ctx, mkfs, args...)
	// A host's own mke2fs.conf must not change what the guest gets.
	cmd.Env = append(os.Environ(), "MKE2FS_CONFIG=/dev/null", "LC_ALL=C", "E2FSPROGS_FAKE_TIME=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		if free, ferr := freeBytes(c.dir); ferr == nil && free < 1<<20 {
			return spaceError(c.dir, 16<<20, "")
		}
		return fmt.Errorf("%s: %w: %s", mkfs, err, strings.TrimSpace(string(out)))
	}
	return noSpace(c.publish(f, path, 0o444), c.dir, 16<<20)
}

// reservedPercent is the part of a disk that only guestd may fill, as mke2fs(8)
// wants it.
func reservedPercent(sizeMiB int64) string {
	reserve := min(float64(sizeMiB)/reservePart, maxReserveMiB)
	return strconv.FormatFloat(100*reserve/float64(sizeMiB), 'f', 6, 64)
}

// findMkfs also looks where the PATH of ordinary users does not lead.
func findMkfs() (string, error) {
	if path, err := exec.LookPath("mkfs.ext4"); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/sbin", "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/opt/e2fsprogs/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, "mkfs.ext4")); err == nil {
			return path, nil
		}
	}
	return "", ErrNoMkfs
}
