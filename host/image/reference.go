// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	ociarchive "go.podman.io/image/v5/oci/archive"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"
)

// ownPrefix is the name space of the images that are built on this machine. It
// is never looked up at a registry, where anybody could own it.
const ownPrefix = "waggle/"

const dockerPrefix = "docker://"

// fileTransports read from this machine's files. What they name may change
// from one call to the next, so they are read anew each time.
var fileTransports = map[string]func(string) (types.ImageReference, error){
	"oci:":            layout.ParseReference,
	"oci-archive:":    ociarchive.ParseReference,
	"docker-archive:": dockerarchive.ParseReference,
	"dir:":            directory.NewReference,
}

// fileReference returns nil when ref names no file transport.
func fileReference(ref string) (types.ImageReference, error) {
	for prefix, parse := range fileTransports {
		rest, ok := strings.CutPrefix(ref, prefix)
		if !ok {
			continue
		}
		r, err := parse(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrReference, ref, err)
		}
		return r, nil
	}
	return nil, nil
}

// IsFile says whether ref names a file or a directory of this host.
func IsFile(ref string) bool { return isFile(ref) }

func isFile(ref string) bool {
	for prefix := range fileTransports {
		if strings.HasPrefix(ref, prefix) {
			return true
		}
	}
	return false
}

// CheckReference says what is wrong with a reference, without looking for the
// image.
func CheckReference(ref string) error {
	_, err := localNames(ref)
	return err
}

// localNames are the names in the index that ref may stand for, the most exact
// first.
func localNames(ref string) ([]string, error) {
	if r, err := fileReference(ref); r != nil || err != nil {
		return []string{ref}, err
	}
	if strings.HasPrefix(ref, "sha256:") {
		return []string{ref}, nil
	}
	named, err := parseNamed(ref)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(ref, dockerPrefix) {
		return []string{named.String()}, nil
	}
	return []string{reference.FamiliarString(named), named.String()}, nil
}

// ownName is the name under which an image made here is stored.
func ownName(ref string) (string, error) {
	named, err := parseNamed(ref)
	if err != nil {
		return "", err
	}
	if _, ok := named.(reference.Digested); ok || strings.HasPrefix(ref, dockerPrefix) {
		return "", fmt.Errorf("%w: %q: give a name and tag such as waggle/python:latest", ErrReference, ref)
	}
	return reference.FamiliarString(named), nil
}

// parseNamed reads a registry name and adds what it leaves out.
func parseNamed(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(strings.TrimPrefix(ref, dockerPrefix))
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w; write NAME[:TAG], REGISTRY/NAME[:TAG] or one of docker://, oci:, oci-archive:, docker-archive:, dir: before it", ErrReference, ref, err)
	}
	if pinned, ok := named.(reference.Digested); ok { // a tag beside it says nothing more
		if named, err = reference.WithDigest(reference.TrimNamed(named), pinned.Digest()); err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrReference, ref, err)
		}
	}
	return reference.TagNameOnly(named), nil
}

// registryReference returns the reference to pull named from, and whether its
// registry is this machine itself.
func registryReference(named reference.Named) (types.ImageReference, bool, error) {
	r, err := docker.NewReference(named)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %q: %w", ErrReference, named, err)
	}
	return r, isLoopback(reference.Domain(named)), nil
}

func isLoopback(domain string) bool {
	host, _, err := net.SplitHostPort(domain)
	if err != nil {
		host = domain
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}
