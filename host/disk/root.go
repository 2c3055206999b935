// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxDisk is the size for which the ext4 writer reserves group descriptors
// (256 KiB, sparse). It is part of the format: another value gives other bytes.
const maxDisk = 1 << 40

// perInode is what the file system needs for each file besides its content: an
// inode, directory entries, the rounding to a block.
const perInode = 4096 + 512

// Layer is one layer of an image.
type Layer struct {
	// Open returns the layer's uncompressed tar stream. It is read to its end
	// once and closed; an error at the end (a digest that does not fit) fails
	// the build. Open may be called again by a later build.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// Size is that of the layer as it is stored, in bytes; 0 when it is not known.
	Size int64
}

// Phase is a step of Root.
type Phase string

// The phases of Root in their order.
const (
	PhaseWait  Phase = "wait"  // another process builds the same disk
	PhaseRead  Phase = "read"  // Done and Total count layers
	PhaseWrite Phase = "write" // Done and Total count bytes
)

// Progress is one report of Root. Reports come from one goroutine at a time
// and none after Root has returned.
type Progress struct {
	Phase       Phase
	Done, Total int64
}

// Root returns the path of the read-only disk with the merged layers, lowest
// first, and makes it if the cache does not hold it. However many ask at once,
// one builds and the others wait. key is the digest of what the layers belong
// to; it alone decides what is taken from the cache. progress may be nil.
func (c *Cache) Root(ctx context.Context, key digest.Digest, layers []Layer, progress func(Progress)) (string, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	path, err := c.rootPath(key)
	if err != nil {
		return "", err
	}
	if hit, err := touch(path); err != nil || hit {
		return path, err
	}
	unlock, err := c.lock(ctx, filepath.Base(path), func() { progress(Progress{Phase: PhaseWait}) })
	if err != nil {
		return "", err
	}
	defer unlock()
	if hit, err := touch(path); err != nil || hit {
		return path, err
	}
	if err := c.dropLeftovers(filepath.Base(path)); err != nil {
		return "", err
	}
	if err := c.build(ctx, path, layers, progress); err != nil {
		return "", fmt.Errorf("build disk of %s: %w", key, err)
	}
	return path, nil
}

// touch reports whether the disk is there and notes that it was used.
func touch(path string) (bool, error) {
	now := time.Now()
	err := os.Chtimes(path, now, now)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, fs.ErrPermission):
		// A cache filled by another user can be used, not marked.
		_, err = os.Stat(path)
		return err == nil, err
	}
	return false, fmt.Errorf("look up disk: %w", err)
}

// build makes a disk if there is room for it. What it took is given back before it
// says what was needed: that is what others see to be free.
func (c *Cache) build(ctx context.Context, path string, layers []Layer, progress func(Progress)) error {
	need := leastSpace(layers)
	free, err := freeBytes(c.dir)
	if err != nil {
		return err
	}
	if free < need.total() {
		return need.error(c.dir)
	}
	err = c.write(ctx, path, layers, progress, &need)
	if isFull(err) {
		return need.error(c.dir)
	}
	return err
}

// write spools the layers, merges them and writes the disk. need becomes what that
// takes, when it is known.
func (c *Cache) write(ctx context.Context, path string, layers []Layer, progress func(Progress), need *space) (err error) {
	if len(layers) > c.limits.Layers {
		return overCount("layers", len(layers), c.limits.Layers, "WAGGLE_IMAGE_MAX_LAYERS")
	}
	b := newBudget(c.limits)
	t := newTree(c.limits)
	var spools []*spool
	defer func() {
		for _, s := range spools {
			s.close()
		}
	}()
	for i, layer := range layers {
		progress(Progress{Phase: PhaseRead, Done: int64(i), Total: int64(len(layers))})
		s, err := readLayer(ctx, c.dir, i, layer, b)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		spools = append(spools, s)
		if err := t.apply(s.entries); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		s.entries = nil
	}
	total, size, err := t.measure()
	if err != nil {
		return err
	}
	*need = space{spool: c.limits.Bytes - b.raw, disk: size}
	if b.full != nil {
		return b.full
	}
	if free, err := freeBytes(c.dir); err != nil {
		return err
	} else if free < need.disk {
		return errNoRoom
	}
	f, err := os.CreateTemp(c.dir, buildPrefix+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("create disk: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if rerr := os.Remove(f.Name()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	report := func(done int64) { progress(Progress{Phase: PhaseWrite, Done: done, Total: total}) }
	report(0)
	if err := writeRoot(ctx, f, t, spools, report); err != nil {
		return err
	}
	return c.publish(f, path, 0o444)
}

// writeRoot streams the tree through the ext4 writer into f. The two sides run
// at once; it returns when both have ended.
func writeRoot(ctx context.Context, f *os.File, t *tree, spools []*spool, report func(int64)) error {
	pr, pw := io.Pipe()
	emitted := make(chan error, 1)
	go func() {
		m := &emitter{ctx: ctx, tw: tar.NewWriter(pw), spools: spools, buf: make([]byte, copyBuffer), report: report}
		err := m.tree(t)
		_ = pw.CloseWithError(err) // nil means EOF; it never fails
		emitted <- err
	}()
	err := FromTar(f, pr)
	_ = pr.CloseWithError(errStopped)
	if eerr := <-emitted; eerr != nil && !errors.Is(eerr, errStopped) {
		return eerr
	}
	return err
}

// errStopped ends the emitter after the ext4 writer has failed.
var errStopped = errors.New("ext4 writer stopped")
