// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/stacklok/waggle/host/image"
)

// imageRmCmd removes names from the store.
type imageRmCmd struct {
	dataFlags
	Refs []string `arg:"" help:"Names as image ls shows them."`
}

// Help implements kong.HelpProvider.
func (imageRmCmd) Help() string {
	return `What only these images had is removed too; image gc removes their disks. Machines that
run keep theirs.

    waggle image rm mine/tools mine/python`
}

// Run removes them in order and stops at the first that fails.
func (c *imageRmCmd) Run(ctx context.Context) error {
	store, err := c.readStore()
	if err != nil {
		return err
	}
	if store == nil {
		return fmt.Errorf("remove image: %w: there is no store yet", image.ErrNotFound)
	}
	for _, ref := range c.Refs {
		if err := store.Remove(ctx, ref); err != nil {
			return fmt.Errorf("remove image: %w", err)
		}
	}
	return nil
}
