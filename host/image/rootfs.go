// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/pkg/compression"
)

// ImportRootfs stores a root file system as an image with one layer. r is a
// tar, as it is or compressed; the image is for arch, the host's when empty.
// The same tar and configuration give the same digest. What the name meant before
// is swept.
func (s *Store) ImportRootfs(ctx context.Context, r io.Reader, ref, arch string, cfg Config) (*Image, error) {
	name, err := ownName(ref)
	if err != nil {
		return nil, err
	}
	if arch == "" {
		arch = runtime.GOARCH
	}
	if _, ok := machines[arch]; !ok {
		return nil, fmt.Errorf("import %q: %w: there are no guests of architecture %q, only of %s",
			ref, ErrArch, arch, strings.Join(slices.Sorted(maps.Keys(machines)), " and "))
	}
	var img *Image
	err = s.adding(ctx, func() error {
		img, err = s.importRootfs(ctx, r, name, arch, cfg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("import %q: %w", ref, err)
	}
	return img, nil
}

func (s *Store) importRootfs(ctx context.Context, r io.Reader, name, arch string, cfg Config) (*Image, error) {
	plain, _, err := compression.AutoDecompress(r)
	if err != nil {
		return nil, torn(err)
	}
	layer, diffID, err := s.putLayer(ctx, plain)
	if err = errors.Join(err, plain.Close()); err != nil {
		return nil, err
	}
	created := time.Unix(0, 0).UTC() // the time of the import would change the digest
	config, err := json.Marshal(imgspec.Image{
		Created: &created, Platform: imgspec.Platform{OS: "linux", Architecture: arch},
		Config: imgspec.ImageConfig{
			Env: cfg.Env, User: cfg.User, WorkingDir: cfg.WorkingDir,
			Entrypoint: cfg.Entrypoint, Cmd: cfg.Cmd, Labels: cfg.Labels,
		},
		RootFS:  imgspec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		History: []imgspec.History{{Created: &created, CreatedBy: "waggle image import"}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return s.putImage(ctx, name, config, []imgspec.Descriptor{layer})
}

// putLayer compresses a tar into the store. It reads the tar's entries on the
// way, so that something else, or half of one, does not become an image.
func (s *Store) putLayer(ctx context.Context, r io.Reader) (imgspec.Descriptor, digest.Digest, error) {
	pr, pw := io.Pipe()
	diff := digest.Canonical.Digester()
	done := make(chan error, 1)
	go func() {
		err := compress(pw, diff, &sourceReader{ctx: ctx, r: r})
		_ = pw.CloseWithError(err) // nil means EOF; it never fails
		done <- err
	}()
	d, size, err := s.putBlob(ctx, pr, "", -1)
	_ = pr.CloseWithError(errStopped)
	if cerr := <-done; cerr != nil && !errors.Is(cerr, errStopped) {
		err = cerr
	}
	if err != nil {
		return imgspec.Descriptor{}, "", err
	}
	return imgspec.Descriptor{MediaType: imgspec.MediaTypeImageLayerZstd, Digest: d, Size: size}, diff.Digest(), nil
}

// errStopped ends the compressor after the store has failed.
var errStopped = errors.New("storing the layer failed")

// compress writes r to w and what it was into diff. The settings are part of
// the digest, so they are fixed and do not follow the number of CPUs.
func compress(w io.Writer, diff digest.Digester, r io.Reader) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return fmt.Errorf("compress layer: %w", err)
	}
	tee := io.TeeReader(r, io.MultiWriter(z, diff.Hash()))
	buf := make([]byte, copyBuffer)
	tr := tar.NewReader(tee)
	entries := 0
	for ; ; entries++ {
		if _, err = tr.Next(); err != nil {
			break
		}
		if _, err = io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{tr}, buf); err != nil {
			break
		}
	}
	if errors.Is(err, io.EOF) && entries > 0 {
		// What packs a tar says at its very end that something is wrong.
		if _, err = io.CopyBuffer(onlyWriter{io.Discard}, tee, buf); err != nil {
			err = torn(err)
		}
	} else {
		err = torn(err)
	}
	return errors.Join(err, z.Close())
}

// torn is the error of a tar that is not whole, unless err is of another kind: the
// host's, the end of a context, or ours.
func torn(err error) error {
	var host *fs.PathError
	switch {
	case errors.Is(err, errStopped), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.As(err, &host):
		return err
	}
	return fmt.Errorf("%w: it is not a whole tar (%w): it is damaged or was cut short; fetch it again", ErrCorrupt, err)
}

// onlyReader hides WriteTo, so that the buffer given to CopyBuffer is used.
type onlyReader struct{ io.Reader }

// putImage stores the configuration and the manifest and names the image. The
// layers are in the store and the caller holds a lease.
func (s *Store) putImage(ctx context.Context, name string, config []byte, layers []imgspec.Descriptor) (*Image, error) {
	cd, err := s.putDocument(ctx, config)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(imgspec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageManifest,
		Config: imgspec.Descriptor{MediaType: imgspec.MediaTypeImageConfig, Digest: cd, Size: int64(len(config))},
		Layers: layers,
	})
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	md, err := s.putDocument(ctx, raw)
	if err != nil {
		return nil, err
	}
	desc := imgspec.Descriptor{MediaType: imgspec.MediaTypeImageManifest, Digest: md, Size: int64(len(raw))}
	if err := s.setName(ctx, name, desc); err != nil {
		return nil, err
	}
	desc.Annotations = map[string]string{imgspec.AnnotationRefName: name}
	return s.load(desc)
}
