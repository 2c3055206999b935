// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stacklok/waggle/host/supervisor"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// findExec finds an exec, written EXEC or ENV/EXEC, by the beginning of its id,
// in all environments that run. The caller closes the target.
func (f targetFlags) findExec(ctx context.Context, name string) (*target, *guestv1.ExecInfo, error) {
	env, id, ok := strings.Cut(name, "/")
	if !ok {
		env, id = "", name
	}
	if id == "" {
		return nil, nil, fmt.Errorf("%q names no exec: `waggle top ENV` lists them", name)
	}
	if env != "" || f.Addr != "" {
		g, err := f.open(ctx, env)
		if err != nil {
			return nil, nil, err
		}
		x, err := pick(ctx, g, id)
		if err == nil && x == nil {
			err = fmt.Errorf("no exec %q in %s: `waggle top` lists those that run or are kept", id, g.name)
		}
		if err != nil {
			_ = g.Close()
			return nil, nil, err
		}
		return g, x, nil
	}
	return f.searchExec(ctx, id)
}

// searchExec asks every environment. One that does not answer in time is named
// when the exec is found nowhere else.
func (f targetFlags) searchExec(ctx context.Context, id string) (*target, *guestv1.ExecInfo, error) {
	dir, err := f.runDir()
	if err != nil {
		return nil, nil, err
	}
	all, err := supervisor.List(dir)
	if err != nil {
		return nil, nil, err
	}
	var (
		found  *target
		exec   *guestv1.ExecInfo
		silent []error
	)
	for _, l := range all {
		if !l.Alive {
			continue
		}
		g, x, err := lookIn(ctx, l, id)
		switch {
		case err != nil:
			silent = append(silent, fmt.Errorf("%s: %w", l.ID, err))
		case x == nil:
		case found != nil:
			_, _ = g.Close(), found.Close()
			return nil, nil, fmt.Errorf("exec %q is in %s and in %s: write %s/%s", id, found.name, g.name, found.name, id)
		default:
			found, exec = g, x
		}
	}
	if found == nil {
		if len(silent) > 0 {
			return nil, nil, fmt.Errorf("find exec %q: %w", id, errors.Join(silent...))
		}
		return nil, nil, fmt.Errorf("no environment has an exec %q: `waggle top ENV` lists them", id)
	}
	return found, exec, nil
}

// lookIn returns a nil exec when the environment does not have it.
func lookIn(ctx context.Context, l supervisor.Listed, id string) (*target, *guestv1.ExecInfo, error) {
	askCtx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	machine, err := supervisor.Attach(l.Dir)
	if err != nil {
		return nil, nil, err
	}
	g := newTarget(machine)
	x, err := pick(askCtx, g, id)
	if err != nil || x == nil {
		_ = g.Close()
		return nil, nil, err
	}
	return g, x, nil
}

// pick returns the exec with the id, else the only one whose id begins with it.
func pick(ctx context.Context, g *target, id string) (*guestv1.ExecInfo, error) {
	execs, err := g.Execs(ctx)
	if err != nil {
		return nil, err
	}
	var found *guestv1.ExecInfo
	for _, x := range execs {
		switch {
		case x.GetExecId() == id:
			return x, nil
		case !strings.HasPrefix(x.GetExecId(), id):
		case found != nil:
			return nil, fmt.Errorf("exec %q is ambiguous in %s: %s, %s", id, g.name, printable(found.GetExecId()), printable(x.GetExecId()))
		default:
			found = x
		}
	}
	return found, nil
}
