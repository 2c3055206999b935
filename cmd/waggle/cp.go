// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/tartree"
)

// cpCmd copies between this host and an environment.
type cpCmd struct {
	targetFlags
	AsRoot bool   `help:"Act as root in the environment, and keep owners."`
	Tar    bool   `help:"With -: a tar archive in place of one file's content."`
	Quiet  bool   `short:"q" help:"Show no progress."`
	From   string `arg:"" help:"What to copy: a path here, ENV:PATH (with --addr: :PATH), or - for the standard input."`
	To     string `arg:"" help:"Where to: ENV:PATH, a path here, or - for the standard output."`
}

// Help is the long text of --help.
func (*cpCmd) Help() string {
	return `Files and directories keep permissions, times, symbolic links, hard links and
holes. As with cp, something copied to a directory that exists goes into it; PATH
from a relative one begins at the home directory. A path here that holds a colon
needs a slash before it: ./a:b.

  waggle cp data.csv env-k3vq7d2m:            # into the home directory
  waggle cp -q src env-k3vq7d2m:/tmp/src
  waggle cp env-k3vq7d2m:/tmp/out .
  waggle cp env-k3vq7d2m:out.png - > out.png
  waggle cp --tar env-k3vq7d2m:/tmp/src - | tar t`
}

// Run copies, one way or the other.
func (c *cpCmd) Run(ctx context.Context) error {
	from, fromGuest := parsePlace(c.From)
	_, toGuest := parsePlace(c.To)
	switch {
	case fromGuest == toGuest:
		return errors.New("one of the two must be in an environment, written ENV:PATH, and the other one here")
	case c.Tar && c.From != "-" && c.To != "-":
		return errors.New("--tar goes with - as one of the two")
	}
	remote := c.To
	if fromGuest {
		remote = c.From
	}
	p, err := guestPlace(remote)
	if err != nil {
		return err
	}
	if fromGuest && from.path == "" {
		p.path = guestHome
	}
	g, err := c.open(ctx, p.env)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	if fromGuest {
		return c.out(ctx, g, p.path)
	}
	return c.in(ctx, g, p.path)
}

// in copies to the environment.
func (c *cpCmd) in(ctx context.Context, g *target, to string) error {
	if c.From == "-" {
		in := readUntil(ctx, os.Stdin)
		if c.Tar {
			_, err := g.ArchiveIn(ctx, &guestv1.ArchiveOpen{Path: to, AsRoot: c.AsRoot}, in)
			return err
		}
		_, err := g.WriteFile(ctx, &guestv1.WriteOpen{Path: to, AsRoot: c.AsRoot}, in)
		return err
	}
	info, err := os.Stat(c.From)
	if err != nil {
		return err
	}
	isDir, err := guestDir(ctx, g, to, c.AsRoot)
	if err != nil {
		return err
	}
	// The contents alone are meant by a trailing "/.".
	if (isDir || strings.HasSuffix(to, "/")) && !strings.HasSuffix(c.From, "/.") {
		abs, err := filepath.Abs(c.From)
		if err != nil {
			return err
		}
		to = path.Join(to, filepath.Base(abs))
	}
	dir, name, as, into := c.From, ".", "", to
	if !info.IsDir() {
		dir, name = filepath.Split(c.From)
		if dir == "" {
			dir = "."
		}
		into, as = path.Split(to)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // it was only read
	return c.send(ctx, g, root, name, as, into)
}

// send packs here and unpacks there, at the pace of the slower one.
func (c *cpCmd) send(ctx context.Context, g *target, root *os.Root, name, as, into string) error {
	bar := newBar("copied", c.Quiet)
	defer bar.end()
	r, w := io.Pipe()
	packed := make(chan tartree.Result, 1)
	go func() { // ends when r is closed
		res, err := tartree.Pack(ctx, root, name, as, io.MultiWriter(w, bar))
		packed <- res
		_ = w.CloseWithError(err)
	}()
	_, err := g.ArchiveIn(ctx, &guestv1.ArchiveOpen{Path: into, AsRoot: c.AsRoot}, r)
	_ = r.Close()
	res := <-packed
	bar.end()
	if err != nil {
		return err
	}
	var unread []string
	for _, f := range res.Failures {
		unread = append(unread, fmt.Sprintf("%s: %v", filepath.Join(c.From, f.Name), reason(f.Err)))
	}
	return warn(res.Skipped, res.Changed, res.Unreadable, unread)
}

// reason is an error without the name that it is about.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// guestDir says whether there is a directory.
func guestDir(ctx context.Context, g *target, path string, asRoot bool) (bool, error) {
	entry, err := g.Stat(ctx, &guestv1.FilesystemStatRequest{Path: path, AsRoot: asRoot})
	if connect.CodeOf(err) == connect.CodeNotFound {
		return false, nil
	}
	return entry.GetType() == guestv1.FileType_FILE_TYPE_DIRECTORY, err
}

// out copies from the environment.
func (c *cpCmd) out(ctx context.Context, g *target, from string) error {
	req := &guestv1.FilesystemArchiveOutRequest{Path: from, AsRoot: c.AsRoot}
	if c.To == "-" {
		if c.Tar {
			done, err := g.ArchiveOut(ctx, req, os.Stdout)
			if err != nil {
				return err
			}
			return warnGuest(done)
		}
		_, err := g.ReadFile(ctx, &guestv1.FilesystemReadRequest{Path: from, AsRoot: c.AsRoot}, os.Stdout)
		if connect.CodeOf(err) == connect.CodeFailedPrecondition {
			return fmt.Errorf("%w; --tar copies a directory to the standard output", err)
		}
		return err
	}
	entry, err := g.Stat(ctx, &guestv1.FilesystemStatRequest{Path: from, NoFollow: true, AsRoot: c.AsRoot})
	if err != nil {
		return err
	}
	to := c.To
	info, err := os.Stat(to)
	if err == nil && info.IsDir() || strings.HasSuffix(to, "/") {
		if !strings.HasSuffix(from, "/.") {
			to = filepath.Join(to, path.Base(from))
		}
	}
	if entry.GetType() == guestv1.FileType_FILE_TYPE_DIRECTORY {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		return c.receive(ctx, g, req, to)
	}
	return c.receiveFile(ctx, g, req, to)
}
