// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/compression"
)

// Image is an image in the store.
type Image struct {
	// Ref is the name in the store.
	Ref string `json:"ref"`
	// Digest is that of the manifest. It identifies the content.
	Digest digest.Digest `json:"digest"`
	OS     string        `json:"os"`
	Arch   string        `json:"arch"`
	Config Config        `json:"config"`
	// Layers, the lowest first.
	Layers []Layer `json:"layers"`
	// Size is what the image takes in the store, shared blobs included.
	Size int64 `json:"size"`
	// Damaged says why the image cannot be used, in a List.
	Damaged string `json:"damaged,omitempty"`

	manifest manifest.Manifest
	raw      []byte // the configuration as stored
}

// Config is what the image asks of whoever runs it.
type Config struct {
	Env        []string          `json:"env,omitempty"`
	User       string            `json:"user,omitempty"`
	WorkingDir string            `json:"working_dir,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Cmd        []string          `json:"cmd,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// Layer is one layer of an image in the store.
type Layer struct {
	// Digest is that of the blob as stored, DiffID that of its tar.
	Digest digest.Digest `json:"digest"`
	DiffID digest.Digest `json:"diff_id"`
	Size   int64         `json:"size"` // of the blob, bytes

	store *Store
}

// Open returns the uncompressed tar of the layer. The read that would be EOF
// fails with ErrCorrupt when the content does not fit DiffID. The caller
// closes it.
func (l Layer) Open(_ context.Context) (io.ReadCloser, error) {
	f, err := l.store.openBlob(l.Digest)
	if err != nil {
		return nil, err
	}
	r, _, err := compression.AutoDecompress(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: layer %s: %w", ErrCorrupt, l.Digest, err), f.Close())
	}
	return &layerReader{r: r, f: f, layer: l, digester: l.DiffID.Algorithm().Digester()}, nil
}

type layerReader struct {
	r        io.ReadCloser
	f        io.Closer
	layer    Layer
	digester digest.Digester
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	_, _ = r.digester.Hash().Write(p[:n]) // a hash never fails
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		// Not wrapped: an unexpected end of the blob is not one of the tar.
		return n, fmt.Errorf("%w: layer %s cannot be unpacked (%v); "+again, ErrCorrupt, r.layer.Digest, err)
	}
	if got := r.digester.Digest(); got != r.layer.DiffID {
		return n, fmt.Errorf("%w: layer %s unpacks to %s, its configuration says %s; "+again,
			ErrCorrupt, r.layer.Digest, got, r.layer.DiffID)
	}
	return n, io.EOF
}

func (r *layerReader) Close() error { return errors.Join(r.r.Close(), r.f.Close()) }

// Inspect returns an image of the store.
func (s *Store) Inspect(ref string) (*Image, error) {
	names, err := localNames(ref)
	if err != nil {
		return nil, err
	}
	desc, ok, err := s.find(names)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %q is not in the local store %s", ErrNotFound, ref, s.root)
	}
	return s.load(desc)
}

// List returns all images of the store by name. An image that is damaged is
// listed with what is known of it.
func (s *Store) List() ([]*Image, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	out := make([]*Image, 0, len(idx.Manifests))
	for _, desc := range idx.Manifests {
		img, err := s.load(desc)
		switch {
		case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound):
			img = &Image{Ref: desc.Annotations[imgspec.AnnotationRefName], Digest: desc.Digest, Damaged: err.Error()}
		case err != nil:
			return nil, err
		}
		out = append(out, img)
	}
	slices.SortFunc(out, func(a, b *Image) int { return strings.Compare(a.Ref, b.Ref) })
	return out, nil
}

func (s *Store) readManifest(desc imgspec.Descriptor) (manifest.Manifest, error) {
	raw, err := s.document(desc.Digest)
	if err != nil {
		return nil, err
	}
	mime := desc.MediaType
	if mime == "" {
		mime = manifest.GuessMIMEType(raw)
	}
	m, err := manifest.FromBlob(raw, mime)
	if err != nil {
		return nil, fmt.Errorf("%w: manifest %s: %w", ErrCorrupt, desc.Digest, err)
	}
	return m, nil
}

func (s *Store) load(desc imgspec.Descriptor) (*Image, error) {
	m, err := s.readManifest(desc)
	if err != nil {
		return nil, err
	}
	raw, err := s.document(m.ConfigInfo().Digest)
	if err != nil {
		return nil, err
	}
	var spec imgspec.Image
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, fmt.Errorf("%w: configuration %s: %w", ErrCorrupt, m.ConfigInfo().Digest, err)
	}
	c := spec.Config
	img := &Image{
		Ref: desc.Annotations[imgspec.AnnotationRefName], Digest: desc.Digest, OS: spec.OS, Arch: spec.Architecture,
		Config: Config{
			Env: c.Env, User: c.User, WorkingDir: c.WorkingDir,
			Entrypoint: c.Entrypoint, Cmd: c.Cmd, Labels: c.Labels,
		},
		Size: desc.Size + int64(len(raw)), manifest: m, raw: raw,
	}
	infos := m.LayerInfos()
	if len(infos) != len(spec.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%w: %s has %d layers and %d layer digests", ErrCorrupt, desc.Digest, len(infos), len(spec.RootFS.DiffIDs))
	}
	for i, info := range infos {
		if err := spec.RootFS.DiffIDs[i].Validate(); err != nil {
			return nil, fmt.Errorf("%w: %s: layer digest %q: %w", ErrCorrupt, desc.Digest, spec.RootFS.DiffIDs[i], err)
		}
		img.Layers = append(img.Layers, Layer{Digest: info.Digest, DiffID: spec.RootFS.DiffIDs[i], Size: info.Size, store: s})
		img.Size += info.Size
	}
	return img, nil
}
