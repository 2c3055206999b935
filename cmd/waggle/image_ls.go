// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/stacklok/waggle/host/image"
)

// imageLsCmd lists the images of the store.
type imageLsCmd struct {
	dataFlags
	JSON bool `help:"Print JSON."`
}

// Help implements kong.HelpProvider.
func (imageLsCmd) Help() string {
	return `GUESTD is the version of the agent that was baked in, if any.

    waggle image ls
    waggle image ls --json | jq -r '.[].ref'`
}

// Run prints one line for each image.
func (c *imageLsCmd) Run() error {
	store, err := c.readStore()
	if err != nil {
		return err
	}
	var images []*image.Image
	if store != nil {
		if images, err = store.List(); err != nil {
			return fmt.Errorf("list images: %w", err)
		}
	}
	if c.JSON {
		if images == nil {
			images = []*image.Image{}
		}
		return json.NewEncoder(os.Stdout).Encode(images)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tDIGEST\tARCH\tSIZE\tGUESTD")
	for _, img := range images {
		hex := strings.TrimPrefix(img.Digest.String(), "sha256:")
		guestd := img.Config.Labels[image.LabelVersion]
		if guestd == "" {
			guestd = "-"
		}
		if img.Damaged != "" {
			fmt.Fprintf(w, "%s\t%s\t-\t-\tdamaged: %s\n", img.Ref, hex[:min(12, len(hex))], printable(img.Damaged))
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", img.Ref, hex[:min(12, len(hex))], img.Arch, humanize.IBytes(uint64(max(img.Size, 0))), guestd)
	}
	return w.Flush()
}
