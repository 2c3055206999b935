// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/remedy"
	"github.com/stacklok/waggle/proto"
	"github.com/stacklok/waggle/version"
)

// imageBakeCmd appends guestd to an image.
type imageBakeCmd struct {
	dataFlags
	fetchFlags
	Src       string `arg:"" help:"The image: a name in the store, or a reference that is pulled."`
	Dst       string `arg:"" optional:"" help:"Name of the result in the store. Default: the name of the source."`
	Arch      string `help:"Architecture as Go names it. Default: this machine's."`
	GuestdDir string `help:"Directory of guestd-linux-ARCH. Default: the one of waggle." env:"WAGGLE_GUESTD_DIR" placeholder:"DIR"`
}

// Help implements kong.HelpProvider.
func (imageBakeCmd) Help() string {
	return `Any image runs without this: its machine then uses the guestd of this waggle. A baked
image brings its own, as long as both speak a protocol version in common.

    waggle image bake mine/tools                      # in place
    waggle image bake docker://docker.io/library/python:3.13-slim mine/python
    WAGGLE_IMAGE_PYTHON=mine/python waggle serve

References: a name in the store, docker://, oci:DIR, oci-archive:FILE, docker-archive:FILE.`
}

// Validate implements kong's interface.
func (c *imageBakeCmd) Validate() error { return c.check() }

// Run prints the digest of the result.
func (c *imageBakeCmd) Run(ctx context.Context) error {
	store, err := c.openStore()
	if err != nil {
		return err
	}
	dst := c.Dst
	if dst == "" {
		dst = c.Src
	}
	say := newProgress(os.Stderr, false)
	defer say.done()
	opts := c.resolve()
	opts.Arch, opts.Progress = c.Arch, pullSteps(say.step)
	src, err := store.Resolve(ctx, c.Src, opts)
	if err != nil {
		return fmt.Errorf("bake image: %w", err)
	}
	bin, err := findGuestd(c.GuestdDir, src.Arch)
	if err != nil {
		return fmt.Errorf("bake image: %w", err)
	}
	say.step("appending guestd")
	img, err := store.Bake(ctx, c.Src, dst, image.Guestd{
		Path:        bin,
		Version:     version.String(),
		ProtocolMin: proto.GuestProtocolMin,
		ProtocolMax: proto.GuestProtocolMax,
	}, opts)
	if err != nil {
		return fmt.Errorf("bake image: %w", err)
	}
	say.done()
	return printImage(os.Stdout, img)
}

// findGuestd returns the path of the agent for arch: in dir, or next to waggle.
func findGuestd(dir, arch string) (string, error) {
	if dir == "" {
		exe, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find guestd: %w; set WAGGLE_GUESTD_DIR", err)
		}
		dir = filepath.Dir(exe)
	}
	path := filepath.Join(dir, "guestd-linux-"+arch)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find guestd: %w; %s", err, remedy.Guestd("guestd-linux-"+arch))
	}
	return path, nil
}
