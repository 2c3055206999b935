// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// imageDfCmd shows where the data directory's disk went.
type imageDfCmd struct {
	dataFlags
	runDirFlags
	JSON bool `help:"Print JSON."`
}

// Help implements kong.HelpProvider.
func (imageDfCmd) Help() string {
	return `SIZE is what is taken on this host's disk, RECLAIMABLE what image gc would free.

    waggle image df
    waggle image df --json | jq '.[] | select(.what=="disks").bytes'`
}

// dfRow is one line.
type dfRow struct {
	What        string `json:"what"`
	Count       int    `json:"count"`
	Bytes       int64  `json:"bytes"`
	Reclaimable int64  `json:"reclaimable"`
}

// Run prints a line for each kind of file.
func (c *imageDfCmd) Run() error {
	rows, err := c.rows()
	if err != nil {
		return fmt.Errorf("measure images: %w", err)
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(rows)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tCOUNT\tSIZE\tRECLAIMABLE")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", r.What, r.Count, humanize.IBytes(uint64(r.Bytes)), humanize.IBytes(uint64(r.Reclaimable)))
	}
	return w.Flush()
}

func (c *imageDfCmd) rows() ([]dfRow, error) {
	v, err := openUse(c.dataFlags, c.runDirFlags)
	if err != nil {
		return nil, err
	}
	images, disks := dfRow{What: "images", Count: len(v.images)}, dfRow{What: "disks"}
	if v.store != nil {
		if images.Bytes, images.Reclaimable, err = v.store.Usage(); err != nil {
			return nil, err
		}
	}
	if v.disks != nil {
		all, err := v.disks.List()
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			disks.Count++
			disks.Bytes += d.Allocated
			if v.disks.Unneeded(d, v.images, v.machines) {
				disks.Reclaimable += d.Allocated
			}
		}
	}
	machines, err := c.scratch()
	return []dfRow{images, disks, machines}, err
}

// scratch adds up what machines have written. It goes with them, not with image gc.
func (c *imageDfCmd) scratch() (dfRow, error) {
	row := dfRow{What: "machines"}
	data, err := c.dataDir()
	if err != nil {
		return row, err
	}
	paths, err := filepath.Glob(filepath.Join(scratchDir(data), "*.ext4"))
	if err != nil {
		return row, fmt.Errorf("list scratch disks: %w", err)
	}
	for _, path := range paths {
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil { // else its machine has ended since
			row.Count++
			row.Bytes += st.Blocks * 512
		}
	}
	return row, nil
}
