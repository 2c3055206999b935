// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// lsLimit is the most entries that ls asks for.
const lsLimit = 100_000

// lsCmd lists a directory of an environment.
type lsCmd struct {
	targetFlags
	AsRoot    bool   `help:"Look as root."`
	Long      bool   `short:"l" help:"Show mode, owner, size and time."`
	Recursive bool   `short:"R" help:"List the directories below too, 64 levels at most."`
	JSON      bool   `help:"Print JSON."`
	Path      string `arg:"" help:"The directory or file as ENV:PATH; ENV alone is the home directory. With --addr: :PATH."`
}

// Help is the long text of --help.
func (*lsCmd) Help() string {
	return `A directory is listed in the order of names, hidden files included; a file is shown
by itself. A name with bytes that a terminal should not get is shown in quotes.

  waggle ls env-k3vq7d2m                   # the home directory
  waggle ls -l env-k3vq7d2m:/tmp`
}

// lsRow is one file, as --json has it.
type lsRow struct {
	Path string `json:"path"`
	// PathBytes is the name in base64 when it is not UTF-8.
	PathBytes  []byte    `json:"path_bytes,omitempty"`
	Type       string    `json:"type"`
	Mode       string    `json:"mode"`
	UID        uint32    `json:"uid"`
	GID        uint32    `json:"gid"`
	Size       uint64    `json:"size"`
	ModifiedAt time.Time `json:"modified_at"`
	Target     string    `json:"target,omitempty"`
}

// Run lists what it can, and fails when a directory could not be read.
func (c *lsCmd) Run(ctx context.Context) error {
	p, err := guestPlace(c.Path)
	if err != nil {
		return err
	}
	g, err := c.open(ctx, p.env)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	entry, err := g.Stat(ctx, &guestv1.FilesystemStatRequest{Path: p.path, AsRoot: c.AsRoot})
	if err != nil {
		return err
	}
	rows, base := []lsRow{newLsRow(entry)}, path.Dir(p.path)
	var failed []*guestv1.FileError
	if entry.GetType() == guestv1.FileType_FILE_TYPE_DIRECTORY {
		req := &guestv1.FilesystemListRequest{Path: p.path, AsRoot: c.AsRoot}
		if c.Recursive {
			req.Depth = 64
		}
		l, err := g.List(ctx, req, lsLimit)
		if err != nil {
			return err
		}
		rows, base, failed = nil, p.path, l.Errors
		for _, e := range l.Entries {
			rows = append(rows, newLsRow(e))
		}
		if l.Truncated {
			fmt.Fprintf(os.Stderr, "waggle: only the first %d entries are shown\n", lsLimit)
		}
	}
	if err := c.print(os.Stdout, rows, base); err != nil {
		return err
	}
	for _, f := range failed {
		fmt.Fprintf(os.Stderr, "waggle: %s: %s\n", quoted(f.GetPath()), printable(f.GetErrnoName()))
	}
	if len(failed) > 0 {
		return exitError(1)
	}
	return nil
}

func newLsRow(e *guestv1.Entry) lsRow {
	return lsRow{
		Path: e.GetPath(), PathBytes: e.GetPathBytes(), Type: strings.ToLower(strings.TrimPrefix(e.GetType().String(), "FILE_TYPE_")),
		Mode: modeString(e), UID: e.GetUid(), GID: e.GetGid(), Size: e.GetSize(),
		ModifiedAt: e.GetModifiedAt().AsTime(), Target: e.GetLinkTarget(),
	}
}

func (c *lsCmd) print(out io.Writer, rows []lsRow, base string) error {
	if c.JSON {
		if rows == nil {
			rows = []lsRow{}
		}
		return json.NewEncoder(out).Encode(rows)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		name := quoted(strings.TrimPrefix(strings.TrimPrefix(r.name(), base), "/"))
		if !c.Long {
			fmt.Fprintln(w, name)
			continue
		}
		if r.Target != "" {
			name += " -> " + quoted(r.Target)
		}
		fmt.Fprintf(w, "%s\t%d:%d\t%s\t%s\t%s\n", r.Mode, r.UID, r.GID, humanize.IBytes(r.Size),
			r.ModifiedAt.Local().Format(time.DateTime), name)
	}
	return w.Flush()
}
