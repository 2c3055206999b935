// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"github.com/docker/distribution/registry/api/errcode"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	ociarchive "go.podman.io/image/v5/oci/archive"
	"go.podman.io/image/v5/oci/layout"
)

var (
	// ErrNotFound is an image that neither the store nor its source has.
	ErrNotFound = errors.New("image not found")
	// ErrReference is a name that cannot be an image's.
	ErrReference = errors.New("invalid image reference")
	// ErrArch is an image for machines of another kind than this host.
	ErrArch = errors.New("image is for another architecture")
	// ErrCorrupt is content that does not fit its digest or its form.
	ErrCorrupt = errors.New("image is damaged")
	// ErrPolicy is an image that the signature policy refuses.
	ErrPolicy = errors.New("image refused by the signature policy")
	// ErrUnauthorized is a registry that wants other credentials.
	ErrUnauthorized = errors.New("registry refused access")
	// ErrGuestd is a guestd binary that cannot be baked into the image.
	ErrGuestd = errors.New("unsuitable guestd binary")
	// ErrNoSpace is a full host disk.
	ErrNoSpace = errors.New("no space left on the host's disk")
	// ErrInterrupted is a pull that was cut and did not succeed when tried again.
	ErrInterrupted = errors.New("the pull was interrupted")
	// ErrUnreachable is a registry that does not answer.
	ErrUnreachable = errors.New("registry cannot be reached")
)

// again is what mends an image that the store has damaged.
const again = "remove the image (`waggle image rm`) and pull or import it again"

// sourceError gives the errors of a source their place among ours and adds
// what to do.
func sourceError(ref string, err error) error { return placeError("pull", ref, err) }

// placeError is of a source ("pull") or a destination ("write").
func placeError(verb, ref string, err error) error {
	var coder errcode.ErrorCoder
	var denied docker.ErrUnauthorizedForCredentials
	var noArchive ociarchive.ArchiveFileNotFoundError
	var noName layout.ImageNotFoundError
	var network net.Error
	var status docker.UnexpectedHTTPStatusError
	switch {
	case errors.Is(err, errStalled): // first: it looks like the end of our own context
		return fmt.Errorf("%s %q: %w: %w", verb, ref, ErrInterrupted, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT): // archives are unpacked first
		return fmt.Errorf("%s %q: %w; free some in the data directory, or choose another with WAGGLE_DATA_DIR: %w", verb, ref, ErrNoSpace, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("read %q: %w", ref, err)
	case errors.As(err, &denied):
		return fmt.Errorf("%s %q: %w: it does not take the name and the password: %s: %w", verb, ref, ErrUnauthorized, login(ref), err)
	case errors.As(err, &coder) && coder.ErrorCode() == errcode.ErrorCodeUnauthorized,
		errors.As(err, &coder) && coder.ErrorCode() == errcode.ErrorCodeDenied:
		return fmt.Errorf("%s %q: %w: %s: %s: %w", verb, ref, ErrUnauthorized, whyDenied(verb), login(ref), err)
	case errors.As(err, &coder) && coder.ErrorCode().Descriptor().HTTPStatusCode == http.StatusNotFound:
		return fmt.Errorf("%s %q: %w: check its name and tag: %w", verb, ref, ErrNotFound, err)
	case errors.Is(err, syscall.ENOENT), errors.As(err, &noArchive):
		return fmt.Errorf("read %q: %w: check the path: %w", ref, ErrNotFound, err)
	case errors.As(err, &noName):
		return fmt.Errorf("read %q: %w: the layout has no image of this name: %w", ref, ErrNotFound, err)
	case isFile(ref):
		return fmt.Errorf("read %q: %w: it is not what the prefix says, or not whole: %w", ref, ErrCorrupt, err)
	case errors.As(err, &status) && status.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("%s %q: %w: the registry is in trouble, or a proxy on the way: %w", verb, ref, ErrInterrupted, err)
	case errors.As(err, &network):
		return fmt.Errorf("%s %q: %w: check the name, and this host's network and proxy (HTTPS_PROXY): %w", verb, ref, ErrUnreachable, err)
	}
	return fmt.Errorf("%s %q: %w", verb, ref, err)
}

func whyDenied(verb string) string {
	if verb == "write" {
		return "nobody is logged in, or whoever is may not write there"
	}
	return "the image does not exist or needs a login"
}

// login is the command that mends it, for the registry of ref.
func login(ref string) string {
	named, err := parseNamed(ref)
	if err != nil {
		return "run `skopeo login` or `podman login`"
	}
	registry := reference.Domain(named)
	return fmt.Sprintf("run `skopeo login %s` or `podman login %s`", registry, registry)
}

// hostError names the directory of a full disk.
func (s *Store) hostError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %s; free some space there, or choose another with WAGGLE_DATA_DIR: %w", ErrNoSpace, s.root, err)
	}
	return err
}
