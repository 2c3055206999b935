// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/stacklok/waggle/host/image"
)

// imageInspectCmd prints what the store knows of images.
type imageInspectCmd struct {
	dataFlags
	Refs []string `arg:"" name:"ref" help:"Names or digests in the store."`
	JSON bool     `help:"Print JSON on one line."`
}

// Help implements kong.HelpProvider.
func (imageInspectCmd) Help() string {
	return `Prints a JSON array: name, digest, platform, configuration, layers, size.

    waggle image inspect waggle/python
    waggle image inspect waggle/python | jq -r '.[].config.env[]'`
}

// Run prints all of them or none.
func (c *imageInspectCmd) Run() error {
	store, err := c.readStore()
	if err != nil {
		return err
	}
	if store == nil {
		return fmt.Errorf("inspect image: %w: there is no store yet; `waggle image pull` makes one", image.ErrNotFound)
	}
	var images []*image.Image
	for _, ref := range c.Refs {
		img, err := store.Inspect(ref)
		if err != nil {
			return fmt.Errorf("inspect image: %w", err)
		}
		images = append(images, img)
	}
	out := json.NewEncoder(os.Stdout)
	if !c.JSON {
		out.SetIndent("", "  ")
	}
	return out.Encode(images)
}
