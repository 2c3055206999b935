// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/supervisor"
)

// imageGcCmd deletes what nothing needs any more.
type imageGcCmd struct {
	dataFlags
	runDirFlags
	JSON bool `help:"Print JSON."`
}

// Help implements kong.HelpProvider.
func (imageGcCmd) Help() string {
	return `Deletes the layers that no image has, the disks whose image is gone, and what killed
processes left. Kept are the disk of an environment that lives, and for five minutes one
that was asked for. Layers are left while another command fetches some.

    waggle image rm mine/old && waggle image gc`
}

// gcResult is what --json prints.
type gcResult struct {
	BlobBytes int64 `json:"blob_bytes"`
	DiskBytes int64 `json:"disk_bytes"`
	Disks     int   `json:"disks"`
	// KeptDisks are unneeded ones that were used a moment ago.
	KeptDisks int `json:"kept_disks"`
}

// Run prints what was freed.
func (c *imageGcCmd) Run() error {
	v, err := openUse(c.dataFlags, c.runDirFlags)
	if err != nil {
		return fmt.Errorf("collect images: %w", err)
	}
	var r gcResult
	if v.store != nil {
		if r.BlobBytes, err = v.store.Collect(); err != nil {
			return fmt.Errorf("collect images: %w", err)
		}
	}
	if v.disks != nil {
		if err := r.prune(v); err != nil {
			return fmt.Errorf("collect images: %w", err)
		}
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	fmt.Printf("freed %s of layers and %s of %d disks\n", humanize.IBytes(uint64(r.BlobBytes)), humanize.IBytes(uint64(r.DiskBytes)), r.Disks)
	if r.KeptDisks > 0 {
		fmt.Printf("%d disks were used in the last five minutes and are kept for now\n", r.KeptDisks)
	}
	return nil
}

func (r *gcResult) prune(v *use) error {
	removed, err := v.disks.Prune(v.images, v.machines, time.Now().Add(-disk.Grace))
	for _, d := range removed {
		r.DiskBytes += d.Allocated
	}
	r.Disks = len(removed)
	if err != nil {
		return err
	}
	_, swept, err := v.disks.Sweep()
	r.DiskBytes += swept
	if err != nil {
		return err
	}
	left, err := v.disks.List()
	for _, d := range left {
		if v.disks.Unneeded(d, v.images, v.machines) {
			r.KeptDisks++
		}
	}
	return err
}

// use is the data directory and what of it is needed.
type use struct {
	store *image.Store // nil when there is none
	disks *disk.Cache  // nil when there is none
	// images and machines have the digests of the images in the store and of those that
	// living environments booted.
	images, machines map[digest.Digest]bool
}

// openUse makes nothing. An environment that cannot be read may live and use any disk:
// that is an error.
func openUse(data dataFlags, run runDirFlags) (*use, error) {
	v := &use{images: map[digest.Digest]bool{}, machines: map[digest.Digest]bool{}}
	dir, err := run.runDir()
	if err != nil {
		return nil, err
	}
	all, err := supervisor.List(dir)
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		if l.Record == nil {
			return nil, fmt.Errorf("environment %s cannot be read, so its disk is not known: `waggle rm %s` removes it: %w", l.ID, l.ID, l.Err)
		}
		if vmm := l.Record.VMM; l.Alive || vmm != nil && vmm.Alive() {
			v.machines[digest.Digest(l.Record.Spec.ImageDigest)] = true
		}
	}
	if v.store, err = data.readStore(); err != nil {
		return nil, err
	}
	if v.store != nil {
		images, err := v.store.List()
		if err != nil {
			return nil, err
		}
		for _, img := range images {
			v.images[img.Digest] = true
		}
	}
	base, err := data.dataDir()
	if err != nil {
		return nil, err
	}
	if disks := filepath.Join(base, "disks"); isDir(disks) {
		v.disks, err = disk.Open(disks, disk.DefaultLimits)
	}
	return v, err
}
