// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/types"

	"github.com/stacklok/waggle/host/remedy"
)

// Phase is a step of Resolve.
type Phase string

// The phases of Resolve in their order.
const (
	PhaseWait    Phase = "wait"    // another process is fetching the same image
	PhaseResolve Phase = "resolve" // asking the source what the name means
	PhasePull    Phase = "pull"    // Blob, Done and Total are set
	PhaseRetry   Phase = "retry"   // something was cut and is tried again; Why is set
)

// Progress is one report of Resolve.
type Progress struct {
	Phase Phase
	Blob  digest.Digest
	// Done and Total are bytes of this blob. Total is -1 where the source does
	// not say. A blob that the store has already comes once, done.
	Done, Total int64
	// Why says what was cut, and when it is tried again.
	Why string
}

// ResolveOptions may be zero.
type ResolveOptions struct {
	// Refresh asks the registry even if the store knows the name.
	Refresh bool
	// LocalOnly never asks a registry.
	LocalOnly bool
	// Arch is the architecture as Go and OCI name it; the host's by default.
	Arch string
	// Insecure permits plain HTTP and unknown certificates. Registries on this
	// machine's loopback addresses always may, unless registries.conf speaks of them.
	Insecure bool
	// PolicyPath is a policy.json to use in place of the host's.
	PolicyPath string
	// AuthFile holds registry credentials, in place of the usual files.
	AuthFile string
	// Progress is called from one goroutine at a time and not after Resolve
	// has returned. It must not block.
	Progress func(Progress)
}

// Resolve finds the image that ref means, fetching it into the store first if
// need be: a name in the store, docker://NAME or a bare registry name,
// oci:DIR[:NAME], oci-archive:FILE, docker-archive:FILE, dir:DIR, or the
// manifest digest of an image in the store. After an error the names are as
// before; what a cut pull had fetched whole waits for the next one.
func (s *Store) Resolve(ctx context.Context, ref string, o ResolveOptions) (*Image, error) {
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	names, err := localNames(ref)
	if err != nil {
		return nil, err
	}
	file, err := fileReference(ref)
	if err != nil {
		return nil, err
	}
	if file != nil {
		return s.fetch(ctx, fetchFrom{ref: ref, name: ref, source: file, file: true}, o)
	}
	if !o.Refresh || isOwn(ref) || o.LocalOnly {
		img, err := s.local(ctx, ref, names, o)
		if img != nil || err != nil && (!errors.Is(err, errOtherPolicy) || o.LocalOnly || strings.HasPrefix(ref, "sha256:")) {
			return img, err
		}
	}
	switch {
	case isOwn(ref):
		return nil, fmt.Errorf("%w: %q is not in the local store %s; %s, which builds Waggle's, or import one with `waggle image import`",
			ErrNotFound, ref, s.root, remedy.RunTask("images"))
	case o.LocalOnly || strings.HasPrefix(ref, "sha256:"):
		return nil, fmt.Errorf("%w: %q is not in the local store %s", ErrNotFound, ref, s.root)
	}
	named, err := parseNamed(ref)
	if err != nil {
		return nil, err
	}
	source, loopback, err := registryReference(named)
	if err != nil {
		return nil, err
	}
	return s.fetch(ctx, fetchFrom{ref: ref, name: named.String(), names: names, source: source, loopback: loopback}, o)
}

func isOwn(ref string) bool { return strings.HasPrefix(ref, ownPrefix) }

// local returns nil when the store has none of the names, and errOtherPolicy when the
// policy has to be asked anew.
func (s *Store) local(ctx context.Context, ref string, names []string, o ResolveOptions) (*Image, error) {
	desc, ok, err := s.find(names)
	if err != nil || !ok {
		return nil, err
	}
	if err := s.recheck(ctx, ref, desc, o.PolicyPath); err != nil {
		return nil, err
	}
	img, err := s.load(desc)
	if err != nil {
		return nil, fmt.Errorf("load %q: %w", ref, err)
	}
	return img, checkArch(ref, img.OS, img.Arch, o.Arch)
}

func checkArch(ref, os, arch, want string) error {
	if os == "linux" && arch == want {
		return nil
	}
	return fmt.Errorf("%w: image %q is for %s/%s, this host runs linux/%s; choose an image for linux/%s", ErrArch, ref, os, arch, want, want)
}

// fetchFrom says what to fetch: the caller's words, the name in the index, the
// names under which another process may have stored it meanwhile, the source, and
// whether that is a file of this machine or a registry on it.
type fetchFrom struct {
	ref, name string
	names     []string
	source    types.ImageReference
	file      bool
	loopback  bool
}

// fetch pulls one reference, alone in this name.
func (s *Store) fetch(ctx context.Context, from fetchFrom, o ResolveOptions) (*Image, error) {
	waits := func() { o.Progress(Progress{Phase: PhaseWait}) }
	unlock, err := s.lock(ctx, "pull-"+digest.FromString(from.name).Encoded(), false, waits)
	if err != nil {
		return nil, err
	}
	defer unlock()
	policy, err := LoadPolicy(o.PolicyPath)
	if err != nil {
		return nil, err
	}
	if !o.Refresh && len(from.names) > 0 {
		img, err := s.local(ctx, from.ref, from.names, o)
		if img != nil || err != nil && !errors.Is(err, errOtherPolicy) {
			return img, err
		}
	}
	var img *Image
	err = s.adding(ctx, func() error {
		p := &puller{store: s, from: from, opts: o, policy: policy}
		desc, err := p.pull(ctx)
		if err != nil {
			return err
		}
		desc.Annotations = map[string]string{annotationSource: from.name, annotationPolicy: policy.mark()}
		if err := s.setName(ctx, from.name, desc); err != nil {
			return err
		}
		desc.Annotations[imgspec.AnnotationRefName] = from.name
		img, err = s.load(desc)
		return err
	})
	return img, err
}
