// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"

	"github.com/stacklok/waggle/host/image"
)

// imageCmd groups the commands on the local image store.
type imageCmd struct {
	Pull    imagePullCmd    `cmd:"" help:"Fetch images into the local store."`
	Import  imageImportCmd  `cmd:"" help:"Make an image of a root file system (a tar)."`
	Bake    imageBakeCmd    `cmd:"" help:"Append guestd, the agent of the guest, to an image."`
	Guestd  imageGuestdCmd  `cmd:"" help:"Write guestd for a Containerfile, and its two lines."`
	Check   imageCheckCmd   `cmd:"" help:"Say whether an image can be an environment, and what it brings."`
	Ls      imageLsCmd      `cmd:"" help:"List the images of the local store."`
	Inspect imageInspectCmd `cmd:"" help:"Print what is known of images."`
	Tag     imageTagCmd     `cmd:"" help:"Give an image one more name."`
	Df      imageDfCmd      `cmd:"" help:"Show the disk use of images and machines."`
	Gc      imageGcCmd      `cmd:"" help:"Delete what no image and no environment needs."`
	Rm      imageRmCmd      `cmd:"" help:"Remove an image from the local store."`
}

// readStore opens the image store of the data directory to look at it: nil when there
// is none.
func (f dataFlags) readStore() (*image.Store, error) {
	dir, err := f.dataDir()
	if err != nil {
		return nil, err
	}
	if !isDir(filepath.Join(dir, "images")) {
		return nil, nil
	}
	return f.openStore()
}

// openStore opens the image store of the data directory, and makes it.
func (f dataFlags) openStore() (*image.Store, error) {
	dir, err := f.dataDir()
	if err != nil {
		return nil, err
	}
	s, err := image.Open(filepath.Join(dir, "images"))
	if err != nil {
		return nil, fmt.Errorf("open the image store: %w", err)
	}
	return s, nil
}
