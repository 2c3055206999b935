// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/types"
)

// What the index says of an image that was fetched, so that a tag of it obeys the policy
// as its first name does. Images that were made here have neither: they are the user's own.
const (
	annotationSource = "io.waggle.image.source" // the reference it was fetched from
	annotationPolicy = "io.waggle.image.policy" // the mark of the policy that accepted it
)

// errOtherPolicy is an image of the store that this policy has not seen, under the name
// by which its registry can be asked about it.
var errOtherPolicy = fmt.Errorf("%w: it was accepted under another policy", ErrPolicy)

// recheck returns nil if the image of the store may be used: the policy accepted it when
// it was fetched, or asks for no signature.
func (s *Store) recheck(ctx context.Context, ref string, desc imgspec.Descriptor, policyPath string) error {
	source := desc.Annotations[annotationSource]
	if source == "" {
		return nil
	}
	policy, err := LoadPolicy(policyPath)
	if err != nil {
		return err
	}
	if desc.Annotations[annotationPolicy] == policy.mark() {
		return nil
	}
	from, err := sourceReference(source)
	if err != nil {
		return err
	}
	stored := image.UnparsedInstance(&unsigned{ref: from, store: s, desc: desc}, nil)
	refused := policy.check(ctx, stored)
	switch {
	case refused == nil:
		return nil
	case desc.Annotations[imgspec.AnnotationRefName] == source:
		return fmt.Errorf("use %q: %w: %w", ref, errOtherPolicy, refused)
	}
	return fmt.Errorf("use %q: %w: it was fetched from %s under another policy; `waggle image pull` that one, and tag it again: %w", ref, ErrPolicy, source, refused)
}

// sourceReference is where an image was fetched from, as the policy names it.
func sourceReference(source string) (types.ImageReference, error) {
	if r, err := fileReference(source); r != nil || err != nil {
		return r, err
	}
	named, err := parseNamed(source)
	if err != nil {
		return nil, err
	}
	r, _, err := registryReference(named)
	return r, err
}

// unsigned is an image of the store as the policy sees it where it came from, but without
// signatures, which the store does not keep.
type unsigned struct {
	ref   types.ImageReference
	store *Store
	desc  imgspec.Descriptor
}

func (u *unsigned) Reference() types.ImageReference { return u.ref }
func (u *unsigned) Close() error                    { return nil }
func (u *unsigned) HasThreadSafeGetBlob() bool      { return false }

func (u *unsigned) GetManifest(context.Context, *digest.Digest) ([]byte, string, error) {
	raw, err := u.store.document(u.desc.Digest)
	return raw, u.desc.MediaType, err
}

func (u *unsigned) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) { return nil, nil }

func (u *unsigned) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}

func (u *unsigned) GetBlob(context.Context, types.BlobInfo, types.BlobInfoCache) (io.ReadCloser, int64, error) {
	return nil, 0, errors.New("the policy reads no layer")
}
