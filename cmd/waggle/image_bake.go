// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/remedy"
	"github.com/stacklok/waggle/proto"
	"github.com/stacklok/waggle/version"
)

// imageBakeCmd appends guestd to an image.
type imageBakeCmd struct {
	dataFlags
	fetchFlags
	Src       string   `arg:"" help:"The image: a name in the store, or a reference that is pulled."`
	Dst       string   `arg:"" optional:"" help:"A name in the store, or a place by its transport. Default: the name of the source."`
	Arch      []string `help:"Architectures as Go names them. Default: this machine's for a name in the store, else all of the source."`
	GuestdDir string   `help:"Directory of guestd-linux-ARCH. Default: the one of waggle." env:"WAGGLE_GUESTD_DIR" placeholder:"DIR"`
	JSON      bool     `help:"Print JSON."`
}

// Help implements kong.HelpProvider.
func (imageBakeCmd) Help() string {
	return `Any image runs without this: its machine then uses the guestd of this waggle. A baked
image brings its own, as long as both speak a protocol version in common.

    waggle image bake mine/tools                      # in place
    waggle image bake docker://docker.io/library/python:3.13-slim mine/python
    waggle image bake mine/tools oci-archive:tools.tar
    waggle image bake docker://quay.io/team/app:v1 docker://quay.io/team/app:v1-waggle
    WAGGLE_IMAGE_PYTHON=mine/python waggle serve

The same source and the same guestd have the same digest. A source for several
architectures stays one where the destination can hold it (not the store, not
docker-archive:); guestd-linux-ARCH has to be there for each.

References: a name in the store, docker://, oci:DIR, oci-archive:FILE, docker-archive:FILE,
dir:DIR. Without Waggle at hand, two lines of a Containerfile do the same:
waggle image guestd --help.`
}

// Validate implements kong's interface.
func (c *imageBakeCmd) Validate() error { return c.check() }

// Run prints the digest of the result.
func (c *imageBakeCmd) Run(ctx context.Context) error {
	store, err := c.openStore()
	if err != nil {
		return err
	}
	say := newProgress(os.Stderr, false)
	defer say.done()
	opts := c.resolve()
	opts.Progress = pullSteps(say.step)
	dst := c.Dst
	if dst == "" {
		dst = c.Src
	}
	if image.IsTransport(dst) && c.Dst != "" {
		return c.bakeTo(ctx, store, say, opts)
	}
	if len(c.Arch) > 1 {
		return errors.New("bake image: a name in the store holds one architecture: give --arch once, or write to oci:DIR")
	}
	if len(c.Arch) == 1 {
		opts.Arch = c.Arch[0]
	}
	src, err := store.Resolve(ctx, c.Src, opts)
	if err != nil {
		return fmt.Errorf("bake image: %w", err)
	}
	agent, err := c.guestd(src.Arch)
	if err != nil {
		return fmt.Errorf("bake image: %w", err)
	}
	say.step("appending guestd")
	img, err := store.Bake(ctx, c.Src, dst, agent, opts)
	if err != nil {
		return fmt.Errorf("bake image: %w", err)
	}
	say.done()
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(image.Baked{Ref: img.Ref, Digest: img.Digest, Arches: []string{img.Arch}})
	}
	return printImage(os.Stdout, img)
}

// bakeTo writes to a place outside of the store.
func (c *imageBakeCmd) bakeTo(ctx context.Context, store *image.Store, say *progress, opts image.ResolveOptions) error {
	out, err := store.BakeTo(ctx, c.Src, c.Dst, c.Arch, c.guestd, opts)
	if err != nil {
		return fmt.Errorf("bake image: %w", err)
	}
	say.done()
	if len(out.LeftOut) > 0 {
		fmt.Fprintf(os.Stderr, "left out, for there are no guests of that kind: %s\n", printable(strings.Join(out.LeftOut, ", ")))
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(out)
	}
	return printBaked(os.Stdout, out)
}

func printBaked(w io.Writer, out *image.Baked) error {
	_, err := fmt.Fprintf(w, "%s %s %s\n", out.Ref, out.Digest, strings.Join(out.Arches, ","))
	return err
}

// guestd describes the agent for an architecture.
func (c *imageBakeCmd) guestd(arch string) (image.Guestd, error) {
	path, err := findGuestd(c.GuestdDir, arch)
	return agentAt(path), err
}

// agentAt is this waggle's agent. The binary beside it is of the same build.
func agentAt(path string) image.Guestd {
	return image.Guestd{
		Path: path, Version: version.String(), ProtocolMin: proto.GuestProtocolMin, ProtocolMax: proto.GuestProtocolMax,
	}
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
