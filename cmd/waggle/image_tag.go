// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
)

// imageTagCmd gives an image one more name.
type imageTagCmd struct {
	dataFlags
	Src string `arg:"" help:"A name or digest in the store."`
	Dst string `arg:"" help:"The further name, such as mine/tools:1."`
}

// Help implements kong.HelpProvider.
func (imageTagCmd) Help() string {
	return `Both names mean the same content; it goes with the last of them.

    waggle image tag docker.io/library/python:3.13-slim waggle/python`
}

// Run prints the image.
func (c *imageTagCmd) Run(ctx context.Context) error {
	store, err := c.openStore()
	if err != nil {
		return err
	}
	img, err := store.Tag(ctx, c.Src, c.Dst)
	if err != nil {
		return fmt.Errorf("tag image: %w", err)
	}
	return printImage(os.Stdout, img)
}
