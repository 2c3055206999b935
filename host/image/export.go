// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"
)

// dockerArchive is the one transport that has a form of its own: no compressed
// layers, no OCI manifest, one image.
const dockerArchive = "docker-archive:"

// IsTransport says whether ref names a place outside of the store, by the prefix of a
// transport.
func IsTransport(ref string) bool { return isFile(ref) || strings.HasPrefix(ref, dockerPrefix) }

// destination is where an image can be written to, and whether that is a registry of
// this machine itself.
func destination(ref string) (types.ImageReference, bool, error) {
	if r, err := fileReference(ref); r != nil || err != nil {
		return r, false, err
	}
	named, err := parseNamed(ref)
	if err != nil {
		return nil, false, err
	}
	return registryReference(named)
}

// exporter writes images of the store to one place outside of it. As puller it does
// without containers/image's copy package.
type exporter struct {
	store *Store
	dst   string
	to    types.ImageDestination
	put   map[digest.Digest]bool // blobs that are there
}

// export writes what desc describes, an image or an index of this store, to dst with
// the digest that it has; but for docker-archive:. The caller holds a lease.
func (s *Store) export(ctx context.Context, desc imgspec.Descriptor, dst string, o ResolveOptions) (err error) {
	ref, loopback, err := destination(dst)
	if err != nil {
		return err
	}
	sys := &types.SystemContext{AuthFilePath: o.AuthFile, BigFilesTemporaryDir: filepath.Join(s.root, tempDir)}
	if o.Insecure || loopback {
		sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	e := &exporter{store: s, dst: dst, put: make(map[digest.Digest]bool)}
	if e.to, err = ref.NewImageDestination(ctx, sys); err != nil {
		return e.failed(err)
	}
	defer func() { err = errors.Join(err, e.to.Close()) }()
	raw, err := e.image(ctx, desc)
	if err != nil {
		return err
	}
	return e.failed(e.to.Commit(ctx, written{ref, raw, desc.MediaType}))
}

// image writes an image or an index with its images, and returns its manifest.
func (e *exporter) image(ctx context.Context, desc imgspec.Descriptor) ([]byte, error) {
	raw, err := e.store.document(desc.Digest)
	if err != nil {
		return nil, err
	}
	if desc.MediaType != imgspec.MediaTypeImageIndex {
		return e.single(ctx, raw, nil)
	}
	var idx imgspec.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return nil, fmt.Errorf("%w: index %s: %w", ErrCorrupt, desc.Digest, err)
	}
	for _, m := range idx.Manifests {
		one, err := e.store.document(m.Digest)
		if err != nil {
			return nil, err
		}
		if _, err := e.single(ctx, one, &m.Digest); err != nil {
			return nil, err
		}
	}
	return raw, e.failed(e.to.PutManifest(ctx, raw, nil))
}

// single writes one image; instance is its digest when it is one of an index.
func (e *exporter) single(ctx context.Context, raw []byte, instance *digest.Digest) ([]byte, error) {
	var m imgspec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrCorrupt, err)
	}
	if strings.HasPrefix(e.dst, dockerArchive) {
		var err error
		if raw, err = e.unpacked(ctx, m); err != nil {
			return nil, err
		}
	} else {
		for _, layer := range m.Layers {
			if err := e.blob(ctx, layer, false); err != nil {
				return nil, err
			}
		}
		if err := e.blob(ctx, m.Config, true); err != nil {
			return nil, err
		}
	}
	return raw, e.failed(e.to.PutManifest(ctx, raw, instance))
}

// blob writes a blob of the store as it is.
func (e *exporter) blob(ctx context.Context, desc imgspec.Descriptor, config bool) error {
	if e.put[desc.Digest] {
		return nil
	}
	info := types.BlobInfo{Digest: desc.Digest, Size: desc.Size, MediaType: desc.MediaType}
	there, _, err := e.to.TryReusingBlob(ctx, info, none.NoCache, false)
	if err != nil {
		return e.failed(err)
	}
	if !there {
		f, err := e.store.openBlob(desc.Digest)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := e.write(ctx, f, info, config); err != nil {
			return err
		}
	}
	e.put[desc.Digest] = true
	return nil
}

// write writes a blob, whose content has to be what its digest says: the store's file
// may have been damaged since it was stored.
func (e *exporter) write(ctx context.Context, r io.Reader, info types.BlobInfo, config bool) error {
	verifier := info.Digest.Verifier()
	in := &sourceReader{ctx: ctx, r: io.TeeReader(r, verifier)}
	if _, err := e.to.PutBlob(ctx, in, info, none.NoCache, config); err != nil {
		return e.failed(err)
	}
	if !verifier.Verified() {
		return fmt.Errorf("%w: blob %s in the store; "+again, ErrCorrupt, info.Digest)
	}
	return nil
}

// unpacked writes the blobs of m for a docker-archive and returns a manifest of that
// form.
func (e *exporter) unpacked(ctx context.Context, m imgspec.Manifest) ([]byte, error) {
	config, err := e.store.document(m.Config.Digest)
	if err != nil {
		return nil, err
	}
	var spec imgspec.Image
	if err := json.Unmarshal(config, &spec); err != nil || len(spec.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w: configuration %s: %w", ErrCorrupt, m.Config.Digest, err)
	}
	out := manifest.Schema2{
		SchemaVersion: 2, MediaType: manifest.DockerV2Schema2MediaType,
		ConfigDescriptor: manifest.Schema2Descriptor{
			MediaType: manifest.DockerV2Schema2ConfigMediaType, Digest: m.Config.Digest, Size: m.Config.Size,
		},
	}
	for i, l := range m.Layers {
		layer := Layer{Digest: l.Digest, DiffID: spec.RootFS.DiffIDs[i], Size: l.Size, store: e.store}
		size, err := e.layer(ctx, layer)
		if err != nil {
			return nil, err
		}
		out.LayersDescriptors = append(out.LayersDescriptors, manifest.Schema2Descriptor{
			MediaType: manifest.DockerV2SchemaLayerMediaTypeUncompressed, Digest: layer.DiffID, Size: size,
		})
	}
	info := types.BlobInfo{Digest: m.Config.Digest, Size: int64(len(config))}
	if err := e.write(ctx, bytes.NewReader(config), info, true); err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// layer writes a layer unpacked and returns its size.
func (e *exporter) layer(ctx context.Context, layer Layer) (int64, error) {
	r, err := layer.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	done, err := e.to.PutBlob(ctx, &sourceReader{ctx: ctx, r: r}, types.BlobInfo{Digest: layer.DiffID, Size: -1}, none.NoCache, false)
	if err != nil {
		return 0, e.failed(err)
	}
	return done.Size, nil
}

// failed names what was written, and what to do where that is known.
func (e *exporter) failed(err error) error {
	if err == nil {
		return nil
	}
	placed := placeError("write", e.dst, err)
	for _, known := range []error{ErrUnauthorized, ErrNoSpace, ErrUnreachable} {
		if errors.Is(placed, known) {
			return placed
		}
	}
	return fmt.Errorf("write %q: %w", e.dst, err)
}

// written is what Commit is told was written.
type written struct {
	ref  types.ImageReference
	raw  []byte
	mime string
}

func (w written) Reference() types.ImageReference                  { return w.ref }
func (w written) Manifest(context.Context) ([]byte, string, error) { return w.raw, w.mime, nil }
func (w written) Signatures(context.Context) ([][]byte, error)     { return nil, nil }
