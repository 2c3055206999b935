// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stacklok/waggle/host/supervisor"
)

// rmGrace is the time that an environment gets to shut down.
const rmGrace = 5 * time.Second

// rmCmd ends environments and removes what is left of dead ones. It needs no
// server.
type rmCmd struct {
	dataFlags
	runDirFlags
	All bool     `help:"Remove all environments, and what killed processes left in the run and data directories."`
	ID  []string `arg:"" optional:"" help:"Environments, or the beginnings of their ids."`
}

// Run goes on after an environment that cannot be removed, and says which ones.
func (c *rmCmd) Run(ctx context.Context) error {
	switch {
	case c.All && len(c.ID) > 0:
		return errors.New("give the environments to remove or --all, not both")
	case !c.All && len(c.ID) == 0:
		return errors.New("name the environments to remove (`waggle ps` lists them), or give --all")
	}
	targets, errs := c.targets()
	for _, l := range targets {
		if err := remove(ctx, l); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Println(l.ID)
	}
	if c.All {
		errs = append(errs, c.sweep(ctx))
	}
	return errors.Join(errs...)
}

// sweep removes what belongs to no environment any more. It says so apart from
// the ids.
func (c *rmCmd) sweep(ctx context.Context) error {
	run, err := c.runDir()
	if err != nil {
		return err
	}
	data, err := c.dataDir()
	if err != nil {
		return err
	}
	s, err := sweep(ctx, run, data, 0)
	if text := s.String(); text != "" {
		fmt.Fprintln(os.Stderr, "removed as well: "+text)
	}
	return err
}

// targets are all environments, or those named, of which some may not be there.
func (c *rmCmd) targets() (targets []supervisor.Listed, errs []error) {
	if c.All {
		dir, err := c.runDir()
		if err == nil {
			targets, err = supervisor.List(dir)
		}
		if err != nil {
			return nil, []error{err}
		}
		return targets, nil
	}
	named := map[string]bool{}
	for _, id := range c.ID {
		l, err := c.find(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !named[l.ID] {
			named[l.ID] = true
			targets = append(targets, l)
		}
	}
	return targets, errs
}

func remove(ctx context.Context, l supervisor.Listed) error {
	rmCtx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if l.Alive {
		machine, err := supervisor.Attach(l.Dir)
		if err == nil {
			err = machine.End(rmCtx, rmGrace, "waggle rm")
			_ = machine.Close()
		}
		if err != nil && !errors.Is(err, supervisor.ErrGone) {
			return err
		}
	}
	return supervisor.Discard(rmCtx, l.Dir)
}
