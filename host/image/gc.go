// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Remove takes the name out of the store and deletes the blobs that no other
// name needs. While another process adds an image, deleting is left to the
// next collection.
func (s *Store) Remove(ctx context.Context, ref string) error {
	names, err := localNames(ref)
	if err != nil {
		return err
	}
	desc, ok, err := s.find(names)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("remove %q: %w in the local store; `waggle image ls` lists what is there", ref, ErrNotFound)
	}
	name := desc.Annotations[imgspec.AnnotationRefName]
	err = s.changeIndex(ctx, func(idx *imgspec.Index) error {
		idx.Manifests = slices.DeleteFunc(idx.Manifests, func(d imgspec.Descriptor) bool {
			return d.Annotations[imgspec.AnnotationRefName] == name
		})
		return nil
	})
	if err != nil {
		return err
	}
	_, err = s.Collect()
	return err
}

// adding runs add, which puts blobs into the store and may give a name to them,
// under a lease, and then sweeps what no name needs: what a name meant before,
// or what had arrived before add failed. Only what a cut pull had fetched stays, for
// the next one, until something else sweeps. That the store could not be swept is less
// than what add has to say.
func (s *Store) adding(ctx context.Context, add func() error) error {
	release, err := s.lease(ctx)
	if err != nil {
		return err
	}
	err = add()
	release()
	if !errors.Is(err, ErrInterrupted) && !errors.Is(err, ErrUnreachable) && ctx.Err() == nil {
		_, _ = s.Collect()
	}
	return err
}

// Collect deletes the blobs that no image of the index needs and what killed
// processes left, and returns the bytes freed. It does nothing while blobs are
// being added.
func (s *Store) Collect() (freed int64, err error) {
	l := flock.New(filepath.Join(s.root, lockDir, "gc"))
	ok, err := l.TryLock()
	if err != nil {
		return 0, fmt.Errorf("lock image store: %w", err)
	}
	if !ok {
		return 0, nil
	}
	defer func() { _ = l.Close() }()
	_, unused, err := s.blobFiles()
	if err != nil {
		return 0, err
	}
	for _, path := range unused {
		if err := remove(path, &freed); err != nil {
			return freed, err
		}
	}
	// An index is written without a lease, so its temporary file may be in
	// use; those of blobs cannot be.
	temps, err := filepath.Glob(filepath.Join(s.root, tempDir, "blob-*"))
	if err != nil {
		return freed, fmt.Errorf("list temporary files: %w", err)
	}
	for _, path := range temps {
		if err := remove(path, &freed); err != nil {
			return freed, err
		}
	}
	return freed, nil
}

// Usage returns the bytes that all blobs take, each once, and those of the blobs that no
// image needs, which Collect would delete if nothing is being added.
func (s *Store) Usage() (all, unused int64, err error) {
	used, rest, err := s.blobFiles()
	if err != nil {
		return 0, 0, err
	}
	for i, path := range append(rest, used...) {
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return 0, 0, fmt.Errorf("measure the image store: %w", err)
		}
		all += st.Size()
		if i < len(rest) {
			unused += st.Size()
		}
	}
	return all, unused, nil
}

// blobFiles returns the paths of the blobs that an image of the index needs, and of the
// others.
func (s *Store) blobFiles() (used, unused []string, err error) {
	needed, err := s.usedBlobs()
	if err != nil {
		return nil, nil, err
	}
	paths, err := filepath.Glob(filepath.Join(s.root, imgspec.ImageBlobsDir, "*", "*"))
	if err != nil {
		return nil, nil, fmt.Errorf("list blobs: %w", err)
	}
	for _, path := range paths {
		d := digest.NewDigestFromEncoded(digest.Algorithm(filepath.Base(filepath.Dir(path))), filepath.Base(path))
		if needed[d] {
			used = append(used, path)
		} else {
			unused = append(unused, path)
		}
	}
	return used, unused, nil
}

func remove(path string, freed *int64) error {
	st, err := os.Lstat(path)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	*freed += st.Size()
	return nil
}

func (s *Store) usedBlobs() (map[digest.Digest]bool, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	used := make(map[digest.Digest]bool)
	for _, desc := range idx.Manifests {
		if used[desc.Digest] {
			continue
		}
		used[desc.Digest] = true
		m, err := s.readManifest(desc)
		if err != nil {
			// Without its manifest nothing says which blobs it needs, and
			// none of them can be used.
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
				continue
			}
			return nil, err
		}
		used[m.ConfigInfo().Digest] = true
		for _, l := range m.LayerInfos() {
			used[l.Digest] = true
		}
	}
	return used, nil
}
