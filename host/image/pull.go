// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/blobinfocache/memory"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
	"golang.org/x/sync/errgroup"
)

const (
	parallelBlobs = 3
	maxLayers     = 500
)

// puller copies one image into the store. It reads the sources of
// containers/image itself instead of using its copy package, which would
// rewrite manifests (another digest than the registry's), write blobs without
// fsync and keep a database of its own in the user's home.
type puller struct {
	store *Store
	from  fetchFrom
	opts  ResolveOptions
	// policy has accepted what pull returns.
	policy *Policy

	mu  sync.Mutex // serialises opts.Progress
	src types.ImageSource
}

func (p *puller) report(r Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opts.Progress(r)
}

func (p *puller) system() *types.SystemContext {
	sys := &types.SystemContext{
		OSChoice: "linux", ArchitectureChoice: p.opts.Arch,
		AuthFilePath:             p.opts.AuthFile,
		OCIInsecureSkipTLSVerify: p.opts.Insecure,
		BigFilesTemporaryDir:     filepath.Join(p.store.root, tempDir),
	}
	insecure := p.opts.Insecure
	if p.from.loopback && !insecure {
		// Who has written of it may have written of mirrors elsewhere, too, for which
		// this would hold as well. A broken file is told of by the pull itself.
		configured, err := sysregistriesv2.FindRegistry(sys, p.from.source.DockerReference().Name())
		insecure = configured == nil && err == nil
	}
	if insecure { // undefined leaves the choice to registries.conf
		sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	return sys
}

func (p *puller) pull(ctx context.Context) (_ imgspec.Descriptor, err error) {
	p.report(Progress{Phase: PhaseResolve})
	sys := p.system()
	raw, mime, err := p.open(ctx, sys)
	if err != nil {
		return imgspec.Descriptor{}, err
	}
	defer func() { err = errors.Join(err, p.src.Close()) }()
	m, err := manifest.FromBlob(raw, mime)
	if err != nil {
		return imgspec.Descriptor{}, fmt.Errorf("%w: manifest of %q: %w", ErrCorrupt, p.from.ref, err)
	}
	if err := p.blobs(ctx, m); err != nil {
		return imgspec.Descriptor{}, err
	}
	d, err := p.store.putDocument(ctx, raw)
	if err != nil {
		return imgspec.Descriptor{}, err
	}
	return imgspec.Descriptor{MediaType: mime, Digest: d, Size: int64(len(raw))}, nil
}

// open finds the source and its manifest, trying again while the source is disturbed.
// Afterwards p.src is open unless there was an error.
func (p *puller) open(ctx context.Context, sys *types.SystemContext) (raw []byte, mime string, err error) {
	err = p.retry(ctx, false, func(ctx context.Context) error {
		tryCtx, done := ctx, func() {}
		if !p.from.file { // an archive is unpacked here, which takes what it takes
			tryCtx, _, done = watch(ctx, 2*p.store.stall) // several requests
		}
		defer done()
		src, err := p.from.source.NewImageSource(tryCtx, sys)
		if err != nil {
			return sourceError(p.from.ref, stalled(tryCtx, err))
		}
		p.src = src
		if raw, mime, err = p.chooseManifest(tryCtx, sys); err != nil {
			return errors.Join(stalled(tryCtx, err), src.Close())
		}
		return nil
	})
	return raw, mime, err
}

// chooseManifest asks the signature policy and returns the manifest of the
// image for this architecture. Of an index and the image in it one signature is
// enough: an index that is accepted names its images by digest.
func (p *puller) chooseManifest(ctx context.Context, sys *types.SystemContext) ([]byte, string, error) {
	raw, mime, refused, err := p.judge(ctx, nil)
	if err != nil {
		return nil, "", err
	}
	if !manifest.MIMETypeIsMultiImage(mime) {
		return raw, mime, refused
	}
	list, err := manifest.ListFromBlob(raw, mime)
	if err != nil {
		return nil, "", fmt.Errorf("%w: index of %q: %w", ErrCorrupt, p.from.ref, err)
	}
	instance, err := list.ChooseInstance(sys)
	if err != nil {
		return nil, "", fmt.Errorf("%w: image %q is for %s, this host runs linux/%s", ErrArch, p.from.ref, platforms(raw), p.opts.Arch)
	}
	raw, mime, instanceRefused, err := p.judge(ctx, &instance)
	switch {
	case err != nil:
		return nil, "", err
	case manifest.MIMETypeIsMultiImage(mime):
		return nil, "", fmt.Errorf("%w: index of %q points to another index", ErrCorrupt, p.from.ref)
	case refused == nil:
		return raw, mime, nil
	}
	return raw, mime, instanceRefused
}

// judge returns a manifest of the source, and in refused why the policy refuses it.
func (p *puller) judge(ctx context.Context, instance *digest.Digest) (raw []byte, mime string, refused, err error) {
	unparsed := image.UnparsedInstance(p.src, instance)
	raw, mime, err = unparsed.Manifest(ctx)
	if err != nil {
		return nil, "", nil, sourceError(p.from.ref, err)
	}
	if mime == "" {
		mime = manifest.GuessMIMEType(raw)
	}
	if err := p.policy.check(ctx, unparsed); err != nil {
		refused = fmt.Errorf("pull %q: %w", p.from.ref, err)
	}
	return raw, manifest.NormalizedMIMEType(mime), refused, nil
}

// platforms lists what an index has. Both kinds of index agree in the fields
// that are read here; attestations say "unknown".
func platforms(raw []byte) string {
	var idx imgspec.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return "no known platform"
	}
	var out []string
	for _, m := range idx.Manifests {
		if m.Platform != nil && m.Platform.OS != "unknown" {
			out = append(out, strings.TrimSuffix(m.Platform.OS+"/"+m.Platform.Architecture+"/"+m.Platform.Variant, "/"))
		}
	}
	if len(out) == 0 {
		return "no known platform"
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ", ")
}

// blobs fetches the configuration, which may end the matter, then the layers.
func (p *puller) blobs(ctx context.Context, m manifest.Manifest) error {
	config := m.ConfigInfo()
	if config.Digest == "" {
		return fmt.Errorf("%w: %q has a manifest without a configuration (schema 1); push it again with a current tool", ErrCorrupt, p.from.ref)
	}
	if config.Size > maxDocument || len(m.LayerInfos()) > maxLayers {
		return fmt.Errorf("%w: %q has a configuration of %d bytes and %d layers", ErrCorrupt, p.from.ref, config.Size, len(m.LayerInfos()))
	}
	cache := memory.New()
	if err := p.blob(ctx, config, cache); err != nil {
		return err
	}
	raw, err := p.store.document(config.Digest)
	if err != nil {
		return err
	}
	var spec imgspec.Image
	if err := json.Unmarshal(raw, &spec); err != nil {
		return fmt.Errorf("%w: configuration of %q: %w", ErrCorrupt, p.from.ref, err)
	}
	if err := checkArch(p.from.ref, spec.OS, spec.Architecture, p.opts.Arch); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(1)
	if p.src.HasThreadSafeGetBlob() {
		g.SetLimit(parallelBlobs)
	}
	seen := make(map[digest.Digest]bool)
	for _, l := range m.LayerInfos() {
		if !seen[l.Digest] {
			seen[l.Digest] = true
			g.Go(func() error { return p.blob(gctx, l.BlobInfo, cache) })
		}
	}
	return g.Wait()
}

func (p *puller) blob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) error {
	if p.store.hasBlob(info.Digest, info.Size) {
		p.report(Progress{Phase: PhasePull, Blob: info.Digest, Done: info.Size, Total: info.Size})
		return nil
	}
	return p.retry(ctx, true, func(ctx context.Context) error { return p.fetchBlob(ctx, info, cache) })
}

// fetchBlob fetches a blob once. Where the registry knows ranges, the reader that
// containers/image gives goes on by itself where a connection broke, as long as each
// brings something; what comes here as an error starts from the beginning.
func (p *puller) fetchBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) error {
	tryCtx, alive, done := watch(ctx, p.store.stall)
	defer done()
	r, _, err := p.src.GetBlob(tryCtx, info, cache)
	if err != nil {
		return sourceError(p.from.ref, stalled(tryCtx, err))
	}
	in := &reportReader{r: r, p: p, alive: alive, progress: Progress{Phase: PhasePull, Blob: info.Digest, Total: info.Size}}
	_, _, err = p.store.putBlob(ctx, in, info.Digest, info.Size)
	if in.failed != nil && !p.from.file && ctx.Err() == nil {
		// The source failed, not what it sent.
		err = fmt.Errorf("%w: blob %s after %d of %d bytes: %w; pull again, what has come whole is kept",
			ErrInterrupted, info.Digest, in.progress.Done, info.Size, stalled(tryCtx, in.failed))
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("pull %q: %w", p.from.ref, err)
	}
	return nil
}

// reportStep is how many bytes lie between two reports of one blob.
const reportStep = 1 << 20

type reportReader struct {
	r        io.Reader
	p        *puller
	alive    func() // called whenever something comes
	progress Progress
	said     int64
	failed   error // of r, other than its end
}

func (r *reportReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.alive()
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		r.failed = err
	}
	r.progress.Done += int64(n)
	if r.progress.Done-r.said >= reportStep || errors.Is(err, io.EOF) {
		r.said = r.progress.Done
		r.p.report(r.progress)
	}
	return n, err
}
