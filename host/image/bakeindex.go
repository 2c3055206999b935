// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
)

// FindGuestd returns the guestd for an architecture.
type FindGuestd func(arch string) (Guestd, error)

// Baked says what a bake has written.
type Baked struct {
	// Ref is the place, as it was given.
	Ref string `json:"ref"`
	// Digest is that of the manifest, or of the index when there are several.
	Digest digest.Digest `json:"digest"`
	// Arches are those of the images, LeftOut those of the source that no machine of
	// Waggle's can have.
	Arches  []string `json:"arches"`
	LeftOut []string `json:"left_out,omitempty"`
}

// BakeTo bakes src, for each of the architectures that o or else the source names,
// and writes the result to dst, a place outside of the store by its transport. An
// index of several stays one. Without arches, an architecture of the source for which
// there is no guestd is an error.
func (s *Store) BakeTo(ctx context.Context, src, dst string, arches []string, find FindGuestd, o ResolveOptions) (*Baked, error) {
	if _, _, err := destination(dst); err != nil {
		return nil, err
	}
	out := &Baked{Ref: dst, Arches: arches}
	if len(arches) == 0 {
		var err error
		if out.Arches, out.LeftOut, err = s.archesOf(ctx, src, o); err != nil {
			return nil, err
		}
	}
	if len(out.Arches) > 1 && strings.HasPrefix(dst, dockerArchive) {
		return nil, fmt.Errorf("%w: %q has images for %s, and %q holds one: choose with --arch, or write oci-archive:FILE",
			ErrArch, src, strings.Join(out.Arches, ", "), dst)
	}
	// All that is missing, before anything is fetched.
	agents := make([]Guestd, len(out.Arches))
	var missing error
	for i, arch := range out.Arches {
		var err error
		if agents[i], err = find(arch); err != nil {
			missing = errors.Join(missing, fmt.Errorf("%w for %s: %w; or choose the others with --arch", ErrGuestd, arch, err))
		}
	}
	if missing != nil {
		return nil, missing
	}
	var descs []imgspec.Descriptor
	for i, arch := range out.Arches {
		desc, forget, err := s.bakeArch(ctx, src, arch, agents[i], o)
		if err != nil {
			return nil, fmt.Errorf("bake %q for %s: %w", src, arch, err)
		}
		defer forget() // the names hold the blobs until they are written
		descs = append(descs, desc)
	}
	err := s.adding(ctx, func() error {
		desc, err := s.oneOf(ctx, descs)
		if err != nil {
			return err
		}
		out.Digest = desc.Digest
		return s.export(ctx, desc, dst, o)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// bakeArch bakes the image of one architecture under a name of its own, which the
// function that it returns gives up.
func (s *Store) bakeArch(ctx context.Context, src, arch string, g Guestd, o ResolveOptions) (imgspec.Descriptor, func(), error) {
	o.Arch = arch
	base := "localhost/waggle-bake:" + digest.FromString(src + " " + arch).Encoded()[:16]
	names := []string{base, base + "-baked"}
	forget := func() {
		for _, name := range names {
			_ = s.Remove(context.WithoutCancel(ctx), name) // it may not be there
		}
	}
	img, err := s.resolveArch(ctx, src, base, o)
	if err == nil {
		img, err = s.bakeOn(ctx, img, base+"-baked", g)
	}
	if err != nil {
		forget()
		return imgspec.Descriptor{}, nil, err
	}
	desc, ok, err := s.find([]string{base + "-baked"})
	if err != nil || !ok {
		forget()
		return imgspec.Descriptor{}, nil, errors.Join(err, ErrNotFound)
	}
	desc.Annotations = nil
	desc.Platform = &imgspec.Platform{OS: img.OS, Architecture: img.Arch}
	return desc, forget, nil
}

// resolveArch finds src for o.Arch. What the store has under that name, for another
// architecture, stays: what is fetched gets the name name.
func (s *Store) resolveArch(ctx context.Context, src, name string, o ResolveOptions) (*Image, error) {
	img, err := s.Inspect(src)
	if err == nil && img.Arch == o.Arch && !isFile(src) {
		return img, nil
	}
	from, loopback, err := s.remote(src)
	if err != nil {
		return nil, err
	}
	if from == nil {
		return s.Resolve(ctx, src, o)
	}
	o.Insecure = o.Insecure || loopback
	o.Refresh = true
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return s.fetch(ctx, fetchFrom{ref: src, name: name, source: from}, o)
}

// remote is where src can be fetched from; nil for what only the store can have.
func (s *Store) remote(src string) (types.ImageReference, bool, error) {
	if isOwn(src) || strings.HasPrefix(src, "sha256:") {
		return nil, false, nil
	}
	return destination(src)
}

// archesOf lists the architectures of src: of what the store has by that name, or
// else of the source's index.
func (s *Store) archesOf(ctx context.Context, src string, o ResolveOptions) (arches, leftOut []string, err error) {
	if img, err := s.Inspect(src); err == nil && !IsTransport(src) {
		return []string{img.Arch}, nil, nil
	}
	from, loopback, err := s.remote(src)
	if err != nil {
		return nil, nil, err
	}
	if from == nil {
		return []string{runtime.GOARCH}, nil, nil // Resolve says what is wrong
	}
	o.Insecure = o.Insecure || loopback
	sys := (&puller{store: s, opts: o}).system()
	source, err := from.NewImageSource(ctx, sys)
	if err != nil {
		return nil, nil, sourceError(src, err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	raw, mime, err := image.UnparsedInstance(source, nil).Manifest(ctx)
	if err != nil {
		return nil, nil, sourceError(src, err)
	}
	if mime == "" {
		mime = manifest.GuessMIMEType(raw)
	}
	if manifest.MIMETypeIsMultiImage(manifest.NormalizedMIMEType(mime)) {
		return choosePlatforms(src, raw)
	}
	img, err := image.FromUnparsedImage(ctx, sys, image.UnparsedInstance(source, nil))
	if err != nil {
		return nil, nil, sourceError(src, err)
	}
	config, err := img.OCIConfig(ctx)
	if err != nil {
		return nil, nil, sourceError(src, err)
	}
	return []string{config.Architecture}, nil, nil
}

// choosePlatforms parts the architectures of an index into those that machines can
// have and the others. Attestations are of none.
func choosePlatforms(src string, raw []byte) (arches, leftOut []string, err error) {
	var idx imgspec.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return nil, nil, fmt.Errorf("%w: index of %q: %w", ErrCorrupt, src, err)
	}
	for _, m := range idx.Manifests {
		if m.Platform == nil || m.Platform.OS == "unknown" {
			continue
		}
		if _, ok := machines[m.Platform.Architecture]; !ok || m.Platform.OS != "linux" {
			leftOut = append(leftOut, m.Platform.OS+"/"+m.Platform.Architecture)
			continue
		}
		if !slices.Contains(arches, m.Platform.Architecture) {
			arches = append(arches, m.Platform.Architecture)
		}
	}
	if len(arches) == 0 {
		return nil, nil, fmt.Errorf("%w: image %q is for %s, guests are linux/%s", ErrArch, src, platforms(raw),
			strings.Join(slices.Sorted(maps.Keys(machines)), " or linux/"))
	}
	slices.Sort(leftOut)
	return arches, slices.Compact(leftOut), nil
}

// oneOf describes several images as one index, and one image as itself.
func (s *Store) oneOf(ctx context.Context, descs []imgspec.Descriptor) (imgspec.Descriptor, error) {
	if len(descs) == 1 {
		return descs[0], nil
	}
	raw, err := json.Marshal(imgspec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageIndex, Manifests: descs,
	})
	if err != nil {
		return imgspec.Descriptor{}, fmt.Errorf("encode index: %w", err)
	}
	d, err := s.putDocument(ctx, raw)
	return imgspec.Descriptor{MediaType: imgspec.MediaTypeImageIndex, Digest: d, Size: int64(len(raw))}, err
}
