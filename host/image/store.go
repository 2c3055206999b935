// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	specs "github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

// lockRetry is how often a waiting process asks again for a lock that another
// one holds: flock(2) has no wait that a context could end.
const lockRetry = 20 * time.Millisecond

const (
	lockDir = ".locks"
	tempDir = ".tmp"
)

// Store is the local image store. All methods may be called concurrently, from
// several processes too.
type Store struct {
	root string
	// retryDelay and stall are constants but for tests.
	retryDelay, stall time.Duration
}

// Open makes the layout in dir if it is missing.
func Open(dir string) (*Store, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s := &Store{root: root, retryDelay: firstDelay, stall: stallTimeout}
	for _, sub := range []string{filepath.Join(imgspec.ImageBlobsDir, "sha256"), lockDir, tempDir} {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	marker := filepath.Join(root, imgspec.ImageLayoutFile)
	if _, err := os.Stat(marker); err == nil {
		return s, nil
	}
	if err := s.writeJSON(marker, imgspec.ImageLayout{Version: imgspec.ImageLayoutVersion}); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return s, nil
}

// lock takes the lock called name, shared or alone, and returns what releases
// it. waits, which may be nil, is called when another holds it. Lock files are never
// deleted: a waiter could otherwise hold a lock that nobody else sees.
func (s *Store) lock(ctx context.Context, name string, shared bool, waits func()) (func(), error) {
	l := flock.New(filepath.Join(s.root, lockDir, name))
	try, take := l.TryLock, l.TryLockContext
	if shared {
		try, take = l.TryRLock, l.TryRLockContext
	}
	taken, err := try()
	if err == nil && !taken {
		if waits != nil {
			waits()
		}
		_, err = take(ctx, lockRetry)
	}
	if err != nil {
		return nil, fmt.Errorf("lock image store: %w", err)
	}
	return func() { _ = l.Close() }, nil
}

// lease keeps collections away until it is released: blobs that are in the
// store now stay although no entry of the index holds them yet.
func (s *Store) lease(ctx context.Context) (func(), error) {
	return s.lock(ctx, "gc", true, nil)
}

// readIndex needs no lock: the file changes as a whole.
func (s *Store) readIndex() (*imgspec.Index, error) {
	idx := &imgspec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageIndex}
	path := filepath.Join(s.root, imgspec.ImageIndexFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return idx, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read image index: %w", err)
	}
	if err := json.Unmarshal(b, idx); err != nil {
		return nil, fmt.Errorf("%w: %s, the store's list of names: delete it, then pull or import the images again: %w", ErrCorrupt, path, err)
	}
	return idx, nil
}

func (s *Store) changeIndex(ctx context.Context, change func(*imgspec.Index) error) error {
	unlock, err := s.lock(ctx, "index", false, nil)
	if err != nil {
		return err
	}
	defer unlock()
	idx, err := s.readIndex()
	if err != nil {
		return err
	}
	if err := change(idx); err != nil {
		return err
	}
	return s.writeJSON(filepath.Join(s.root, imgspec.ImageIndexFile), idx)
}

// setName makes name mean the manifest. The caller holds a lease.
func (s *Store) setName(ctx context.Context, name string, desc imgspec.Descriptor) error {
	annotations := map[string]string{imgspec.AnnotationRefName: name}
	for k, v := range desc.Annotations {
		if k != imgspec.AnnotationRefName {
			annotations[k] = v
		}
	}
	desc.Annotations = annotations
	return s.changeIndex(ctx, func(idx *imgspec.Index) error {
		for i := range idx.Manifests {
			if idx.Manifests[i].Annotations[imgspec.AnnotationRefName] == name {
				idx.Manifests[i] = desc
				return nil
			}
		}
		idx.Manifests = append(idx.Manifests, desc)
		return nil
	})
}

// find returns the entry of the first of names that the index has.
func (s *Store) find(names []string) (imgspec.Descriptor, bool, error) {
	idx, err := s.readIndex()
	if err != nil {
		return imgspec.Descriptor{}, false, err
	}
	for _, name := range names {
		for _, d := range idx.Manifests {
			if d.Annotations[imgspec.AnnotationRefName] == name || d.Digest.String() == name {
				return d, true, nil
			}
		}
	}
	return imgspec.Descriptor{}, false, nil
}

func (s *Store) writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	f, err := os.CreateTemp(filepath.Join(s.root, tempDir), "json-")
	if err != nil {
		return s.hostError(err)
	}
	_, err = f.Write(b)
	return s.publish(f, path, err)
}

// publish finishes the temporary file f, to which writing ended with err, and
// gives it its name. Afterwards f is closed, and deleted if anything failed.
func (s *Store) publish(f *os.File, path string, err error) error {
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return s.hostError(errors.Join(err, os.Remove(f.Name())))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return s.hostError(errors.Join(d.Sync(), d.Close()))
}
