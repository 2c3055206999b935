// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/host/supervisor"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// kitTimeout bounds the question what an environment has.
const kitTimeout = 30 * time.Second

// kit is what an environment has: who runs its commands and where, and programs.
type kit struct {
	user, home, dir string
	// programs are those of probes that are there. Nil: its guestd cannot say.
	programs map[string]bool
}

// managerPrograms tell of the package managers.
var managerPrograms = []struct{ name, program string }{
	{"pip", "pip3"}, {"pip", "pip"}, {"npm", "npm"}, {"apt", "apt-get"}, {"apk", "apk"}, {"dnf", "dnf"},
}

// probes are the programs that are asked for.
func (m *Manager) probes() []string {
	var names []string
	for _, r := range m.runtimes {
		for _, p := range r.programs {
			names = append(names, p[0])
		}
	}
	for _, p := range managerPrograms {
		names = append(names, p.program)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// look asks a machine for its kit. What it says is the guest's word: paths are
// bounded, and of programs only those asked for count.
func (m *Manager) look(ctx context.Context, machine *supervisor.Client) (*kit, error) {
	askCtx, cancel := context.WithTimeoutCause(ctx, kitTimeout, fmt.Errorf("%w: %w", ErrLost, errNoAnswer))
	defer cancel()
	probes := m.probes()
	answer, err := machine.Guest().Probe(askCtx, probes)
	if connect.CodeOf(err) == connect.CodeUnimplemented {
		return &kit{user: "sandbox", home: Home, dir: Home}, nil // an older guestd, which knows no other user
	}
	if err != nil {
		return nil, guestError(askCtx, "look for programs", err)
	}
	k := &kit{
		user: plain(answer.GetUser(), 64), home: pathOr(answer.GetHome(), "/"), dir: pathOr(answer.GetCwd(), "/"),
		programs: make(map[string]bool),
	}
	for _, p := range probes {
		if answer.GetPrograms()[p] != "" {
			k.programs[p] = true
		}
	}
	return k, nil
}

// pathOr is a path that the guest gave, or another one if it is none.
func pathOr(p, other string) string {
	if checkPath(p) != nil {
		return other
	}
	return path.Clean(p)
}

// kit is what the call's environment had when it was first asked.
func (m *Manager) kit(ctx context.Context, c *call) (*kit, error) {
	c.env.mu.Lock()
	k := c.env.kit
	c.env.mu.Unlock()
	if k != nil {
		return k, nil
	}
	k, err := m.look(ctx, c.machine)
	if err != nil {
		return nil, err
	}
	if c.info.Adopted {
		c.env.swept.Do(func() { m.sweepCode(ctx, c.env.id, c.machine.Guest()) })
	}
	c.env.keep(k, m.runtimes)
	return k, nil
}

// keep remembers a kit, and puts it into the environment's description.
func (e *environment) keep(k *kit, known []runtime) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kit = k
	e.info.User, e.info.Dir = k.user, k.dir
	e.info.Languages, e.info.Managers = k.languages(known, e.info.Runtime), k.managers()
}

// languages lists what can be run, first what is run by default; nil if that is
// not known.
func (k *kit) languages(known []runtime, own string) []string {
	if k.programs == nil {
		return nil
	}
	names := []string{}
	for _, r := range known {
		if !slices.ContainsFunc(r.programs, func(p []string) bool { return k.programs[p[0]] }) {
			continue
		}
		if r.name == own {
			names = slices.Insert(names, 0, r.name)
			continue
		}
		names = append(names, r.name)
	}
	return names
}

func (k *kit) managers() []string {
	if k.programs == nil {
		return nil
	}
	names := []string{}
	for _, p := range managerPrograms {
		if k.programs[p.program] && !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	return names
}

// describe learns what a machine was made of and has. It runs without that too, so
// what cannot be learnt is left out.
func (m *Manager) describe(ctx context.Context, e *environment, machine *supervisor.Client) {
	askCtx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	i, err := machine.Info(askCtx)
	if err != nil {
		m.log.Warn("environment is not described", "env", e.id, "error", err)
	} else {
		e.mu.Lock()
		e.info.describe(i)
		e.mu.Unlock()
		if note := e.snapshot().GuestdNote; note != "" {
			m.log.Warn("the image's own guestd is not used, the host's is", "env", e.id, "reason", note)
		}
	}
	k, err := m.look(ctx, machine)
	if err != nil {
		m.log.Warn("what the environment has is not known yet", "env", e.id, "error", err)
		return
	}
	e.keep(k, m.runtimes)
}

// describe takes over what a supervisor says of its machine.
func (i *Info) describe(from *hostv1.SupervisorInfoResponse) {
	i.Image, i.ImageDigest = from.GetImage(), from.GetImageDigest()
	i.GuestdVersion, i.GuestdOrigin, i.GuestdNote = from.GetGuestdVersion(), from.GetGuestdOrigin(), from.GetGuestdNote()
}
