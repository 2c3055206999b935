// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/stacklok/waggle/host/image"
)

// imagePullCmd fetches images into the store.
type imagePullCmd struct {
	dataFlags
	fetchFlags
	Refs  []string `arg:"" name:"ref" help:"References of images."`
	Arch  string   `help:"Architecture as Go names it. Default: this machine's."`
	Quiet bool     `short:"q" help:"Print the digest only."`
	JSON  bool     `help:"Print JSON."`
}

// Help implements kong.HelpProvider.
func (imagePullCmd) Help() string {
	return `A name that the store has is asked for again; only what is new is fetched. A pull that
is cut goes on where it was, or is tried again a few times.

    waggle image pull docker.io/library/alpine:3.22
    waggle image pull ghcr.io/team/tools@sha256:DIGEST     # this content or nothing
    waggle image pull oci-archive:tools.tar
    skopeo login ghcr.io && waggle image pull ghcr.io/team/private

References: docker:// (may be left out), oci:DIR[:NAME], oci-archive:FILE,
docker-archive:FILE, dir:DIR. Mirrors and insecure registries are those of
containers-registries.conf(5), credentials those of podman, skopeo and docker.`
}

// Validate implements kong's interface.
func (c *imagePullCmd) Validate() error { return c.check() }

// Run fetches them in order and stops at the first that fails.
func (c *imagePullCmd) Run(ctx context.Context) error {
	store, err := c.openStore()
	if err != nil {
		return err
	}
	var images []*image.Image
	for _, ref := range c.Refs {
		img, err := c.pull(ctx, store, ref)
		if err != nil {
			return fmt.Errorf("pull image: %w", err)
		}
		images = append(images, img)
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(images)
	}
	for _, img := range images {
		if c.Quiet {
			fmt.Println(img.Digest)
		} else if err := printImage(os.Stdout, img); err != nil {
			return err
		}
	}
	return nil
}

func (c *imagePullCmd) pull(ctx context.Context, store *image.Store, ref string) (*image.Image, error) {
	shown := newPullBar(c.Quiet)
	defer shown.end()
	opts := c.resolve()
	opts.Arch, opts.Refresh, opts.Progress = c.Arch, true, shown.report
	return store.Resolve(ctx, ref, opts)
}
