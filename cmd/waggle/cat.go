// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// catCmd prints files of an environment.
type catCmd struct {
	targetFlags
	AsRoot bool     `help:"Read as root."`
	Offset uint64   `help:"Skip so many bytes of each file." placeholder:"BYTES"`
	Limit  uint64   `help:"Print at most so many bytes of each file; 0 for all." placeholder:"BYTES"`
	Path   []string `arg:"" help:"Files as ENV:PATH; a relative path begins at the home directory. With --addr: :PATH."`
}

// Help is the long text of --help.
func (*catCmd) Help() string {
	return `Several files are printed one after the other, up to the first that cannot be read.

  waggle cat env-k3vq7d2m:/etc/os-release
  waggle cat --offset 1000 --limit 200 env-k3vq7d2m:data.csv`
}

// Run prints one file after the other and stops at the first that fails.
func (c *catCmd) Run(ctx context.Context) error {
	for _, arg := range c.Path {
		if err := c.one(ctx, arg); err != nil {
			return err
		}
	}
	return nil
}

func (c *catCmd) one(ctx context.Context, arg string) error {
	p, err := guestPlace(arg)
	if err != nil {
		return err
	}
	g, err := c.open(ctx, p.env)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	req := &guestv1.FilesystemReadRequest{Path: p.path, Offset: c.Offset, Limit: c.Limit, AsRoot: c.AsRoot}
	_, err = g.ReadFile(ctx, req, os.Stdout)
	return err
}
