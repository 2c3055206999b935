// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/dustin/go-humanize"

	"github.com/stacklok/waggle/host/image"
)

// imageImportCmd stores a root file system as an image of one layer.
type imageImportCmd struct {
	dataFlags
	Tar     string            `arg:"" help:"The tar, as it is or compressed; - reads standard input."`
	Ref     string            `arg:"" help:"Name in the store, such as waggle/python:latest."`
	Arch    string            `help:"Architecture as Go names it. Default: this machine's."`
	Env     []string          `help:"Environment of the image, NAME=VALUE." placeholder:"NAME=VALUE" sep:"none"`
	User    string            `help:"User of the image."`
	Workdir string            `help:"Working directory of the image."`
	Label   map[string]string `help:"Label of the image, NAME=VALUE." placeholder:"NAME=VALUE" mapsep:"none"`
}

// Help implements kong.HelpProvider.
func (imageImportCmd) Help() string {
	return `The tar becomes the only layer of an OCI image in the local store.

    waggle image import --env LANG=C.UTF-8 root.tar mine/tools
    docker export my-container | waggle image import - mine/tools
    waggle run mine/tools ls /`
}

// Run prints the digest of the image.
func (c *imageImportCmd) Run(ctx context.Context) error {
	in, name, err := c.source(ctx)
	if err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	defer func() { _ = in.Close() }()
	store, err := c.openStore()
	if err != nil {
		return err
	}
	say := newProgress(os.Stderr, false)
	defer say.done()
	say.step("reading " + name)
	cfg := image.Config{Env: c.Env, User: c.User, WorkingDir: c.Workdir, Labels: c.Label}
	img, err := store.ImportRootfs(ctx, in, c.Ref, c.Arch, cfg)
	if err != nil {
		return fmt.Errorf("import image from %s: %w", name, err)
	}
	say.done()
	return printImage(os.Stdout, img)
}

// source opens the tar, and says what to call it.
func (c *imageImportCmd) source(ctx context.Context) (io.ReadCloser, string, error) {
	if c.Tar == "-" {
		return io.NopCloser(readUntil(ctx, os.Stdin)), "the standard input", nil
	}
	f, err := os.Open(c.Tar)
	return f, c.Tar, err
}

func printImage(w io.Writer, img *image.Image) error {
	_, err := fmt.Fprintf(w, "%s %s %s\n", img.Ref, img.Digest, humanize.IBytes(uint64(max(img.Size, 0))))
	return err
}
