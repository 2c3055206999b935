// SPDX-License-Identifier: Apache-2.0

// Package image keeps the images of environments and everything that fills
// the store: pulls from registries, archives and layouts, root file systems
// built on this machine, and images with guestd baked in.
//
// The store is one OCI image layout, so skopeo and podman can read it: each
// blob once under its digest, names in index.json. Any number of processes may
// use it at once. Three kinds of lock files in .locks order them:
//
//   - index: held for the read-change-write of index.json, never for longer;
//   - gc: shared by whoever adds blobs, from the first blob to the entry in the
//     index; exclusive for deleting blobs without an entry. Collecting never
//     waits for a pull: what it cannot delete now goes the next time;
//   - pull-*: one reference is fetched by one process, the others wait for it.
//
// A blob or an index appears whole or not at all: temporary file, fsync,
// rename. What a killed process leaves is not part of the layout and is
// deleted by the next collection.
//
// Pulls go through the transports and the signature policy of containers/image.
// Where the host has no policy.json, the policy is insecureAcceptAnything, which
// is also what the packages of podman and skopeo install. What the policy has to say of
// an image is asked before its first blob is fetched, and again under another policy.
package image
