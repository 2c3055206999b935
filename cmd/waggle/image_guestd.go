// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/stacklok/waggle/host/image"
)

// imageGuestdCmd gives those who build images with another tool what bake appends.
type imageGuestdCmd struct {
	Dir       string `arg:"" help:"Directory to write, in the context of the build."`
	Arch      string `help:"Architecture as Go names it. Default: this machine's."`
	BuildArgs bool   `help:"Print options for the build of images/*/Containerfile in place of the two lines."`
	GuestdDir string `help:"Directory of guestd-linux-ARCH. Default: the one of waggle." env:"WAGGLE_GUESTD_DIR" placeholder:"DIR"`
}

// Help implements kong.HelpProvider.
func (imageGuestdCmd) Help() string {
	return `Writes guestd and guestd.json, and prints the two lines that bake them into an image with
docker, podman or buildah, where no Waggle is at hand.

    waggle image guestd waggle >> Containerfile
    podman build -t mine/tools .

A Containerfile that has such lines already, with arguments GUESTD_VERSION, GUESTD_PROTOCOL
and GUESTD_DIGEST, as those of images/ do, gets their values by --build-args:

    podman build $(waggle image guestd --build-args waggle) -f images/shell/Containerfile .

The image is as good as one of waggle image bake: waggle image check says so.`
}

// Run prints the lines.
func (c *imageGuestdCmd) Run() error {
	arch := c.Arch
	if arch == "" {
		arch = runtime.GOARCH
	}
	path, err := findGuestd(c.GuestdDir, arch)
	if err != nil {
		return fmt.Errorf("write guestd: %w", err)
	}
	labels, err := image.WriteGuestd(agentAt(path), arch, c.Dir)
	if err != nil {
		return fmt.Errorf("write guestd: %w", err)
	}
	if c.BuildArgs {
		_, err = fmt.Printf("--build-arg=GUESTD_VERSION=%s --build-arg=GUESTD_PROTOCOL=%s --build-arg=GUESTD_DIGEST=%s\n",
			labels[image.LabelVersion], labels[image.LabelProtocol], labels[image.LabelDigest])
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "COPY --chown=0:0 %s/ /usr/lib/waggle/\nLABEL %s=%q %s=%q %s=%q\n", c.Dir,
		image.LabelVersion, labels[image.LabelVersion], image.LabelProtocol, labels[image.LabelProtocol],
		image.LabelDigest, labels[image.LabelDigest])
	return err
}
