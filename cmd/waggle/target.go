// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/supervisor"
	"github.com/stacklok/waggle/host/vsock"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// targetFlags name a guest that runs: an environment of the run directory, or
// any guestd by its address.
type targetFlags struct {
	runDirFlags
	Addr string `help:"Reach a guestd under another VMM, in place of an environment: vsock://CID:PORT, hybrid:///path.sock:PORT or unix:///path.sock. ENV is then left out." env:"WAGGLE_ADDR" placeholder:"ADDRESS"`
}

// target is a guest to talk to. The caller closes it, which does nothing to the
// machine.
type target struct {
	*guest.Client
	// name is the environment's id, or the address.
	name  string
	close func() error
}

func (t *target) Close() error { return t.close() }

// open connects to the environment whose id begins with prefix, and waits while
// it boots. With --addr prefix must be empty.
func (f targetFlags) open(ctx context.Context, prefix string) (*target, error) {
	if f.Addr != "" {
		return f.openAddr(ctx, prefix)
	}
	if prefix == "" {
		return nil, errors.New("name an environment (`waggle ps` lists them), or give --addr")
	}
	machine, err := f.attach(prefix)
	if err != nil {
		return nil, err
	}
	if err := machine.WaitRunning(ctx, "", nil); err != nil {
		_ = machine.Close()
		return nil, err
	}
	t := newTarget(machine)
	followCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		var last *hostv1.State
		// Its end shows in the calls on the guest.
		_ = machine.Wait(followCtx, "", func(s *hostv1.State) bool {
			sayPause(last, s)
			last = s
			return true
		})
	}()
	t.close = func() error {
		cancel()
		<-followed
		return machine.Close()
	}
	return t, nil
}

// sayPause tells a person why a command stands still, and that it goes on.
func sayPause(before, now *hostv1.State) {
	switch why := now.GetPaused(); {
	case why == before.GetPaused():
	case why != "":
		fmt.Fprintf(os.Stderr, "waggle: the environment stands still: %s\n", printable(why))
	case now.GetPhase() == hostv1.Phase_PHASE_RUNNING:
		fmt.Fprintln(os.Stderr, "waggle: the environment goes on")
	}
}

func newTarget(machine *supervisor.Client) *target {
	return &target{Client: machine.Guest(), name: machine.ID(), close: machine.Close}
}

// openAddr has no supervisor to ask, so it asks guestd whether they understand
// each other.
func (f targetFlags) openAddr(ctx context.Context, prefix string) (*target, error) {
	if prefix != "" {
		return nil, fmt.Errorf("give an environment (%s) or --addr, not both", prefix)
	}
	addr, err := vsock.ParseAddr(f.Addr)
	if err != nil {
		return nil, fmt.Errorf("--addr: %w", err)
	}
	g := guest.New(addr.Dial)
	checkCtx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := g.Check(checkCtx); err != nil {
		_ = g.Close()
		return nil, fmt.Errorf("--addr %s: %w", addr, err)
	}
	return &target{Client: g, name: addr.String(), close: g.Close}, nil
}

// shift moves a first argument that --addr has made superfluous to the ones
// behind it: `exec ENV -- cmd args` is `exec --addr A -- cmd args`.
func (f targetFlags) shift(env string, rest []string) (string, []string) {
	if f.Addr == "" || env == "" {
		return env, rest
	}
	return "", append([]string{env}, rest...)
}

// place is a path in an environment, written ENV:PATH, or :PATH with --addr.
type place struct{ env, path string }

// parsePlace returns false for what is a path of the host: one without a colon,
// or with a slash before it.
func parsePlace(s string) (place, bool) {
	env, path, ok := strings.Cut(s, ":")
	if !ok || strings.Contains(env, "/") {
		return place{}, false
	}
	return place{env, path}, true
}

// guestPlace reads an argument that must be in an environment. An empty path is
// the home directory of the workload user.
func guestPlace(s string) (place, error) {
	p, ok := parsePlace(s)
	switch {
	case !ok && strings.Contains(s, "/"):
		return place{}, fmt.Errorf("%q names no environment: write ENV:/path", s)
	case !ok:
		p.env = s
	}
	if p.path == "" {
		p.path = guestHome
	}
	if !strings.HasPrefix(p.path, "/") {
		// As with scp: a relative path begins at the home directory.
		p.path = guestHome + "/" + p.path
	}
	return p, nil
}

// guestHome is the home directory of the workload user in every environment.
const guestHome = "/home/sandbox"
