// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// limit is what a scenario gets, on the slowest machine.
const limit = 90 * time.Second

// Need is what a scenario asks of the place where it runs, and what a place offers.
type Need uint

const (
	// Root: guestd may become any user.
	Root Need = 1 << iota
	// Cgroup: each exec has a control group, which nothing in it can leave.
	Cgroup
	// Machine: guestd owns a machine, which it may change.
	Machine
	// Plain: guestd owns no machine, and must change nothing of the one it is on.
	Plain
	// Python: python3 is there.
	Python
	// Alone: no other scenario runs meanwhile. Every place offers it.
	Alone

	// None: any guestd will do.
	None Need = 0
)

func (n Need) String() string {
	var names []string
	for i, name := range []string{"root", "control groups", "a machine of its own", "no machine of its own", "python3", "nothing beside it"} {
		if n&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Scenario is one promise.
type Scenario struct {
	Name string
	Need Need
	Run  func(ctx context.Context, t *testing.T, g *Guest)
}

// Scenarios returns all of them.
func Scenarios() []Scenario {
	return slices.Concat(running(), names(), ends(), trees(), outputs(),
		files(), owners(), archives(), watches(), installs(), machines(), limits())
}

// Run runs the scenarios, those that ask to be alone first and then the others side
// by side, and skips those that ask for what offers lacks. Their names are unique.
func Run(t *testing.T, g *Guest, offers Need) {
	t.Helper()
	RunSome(t, g, offers, func(Scenario) bool { return true })
}

// RunSome runs those of the scenarios that are wanted.
func RunSome(t *testing.T, g *Guest, offers Need, wanted func(s Scenario) bool) {
	t.Helper()
	for _, s := range Scenarios() {
		if !wanted(s) {
			continue
		}
		t.Run(strings.ReplaceAll(s.Name, " ", "_"), func(t *testing.T) {
			if s.Need&Alone == None {
				t.Parallel() // waits for those that are not
			}
			if lacks := s.Need &^ (offers | Alone); lacks != None {
				t.Skipf("this guest lacks what it needs: %s", lacks)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s.Run(ctx, t, g)
		})
	}
}

// Guest is a set of clients of one guestd. It may be used concurrently.
type Guest struct {
	guestv1connect.ProcessClient
	Files    guestv1connect.FilesystemClient
	Packages guestv1connect.PackagesClient
	System   guestv1connect.SystemClient

	dial    func(ctx context.Context) (net.Conn, error)
	options []connect.ClientOption
}

// Dial returns clients that share one HTTP/2 connection, which is closed with the
// test.
func Dial(t testing.TB, dial func(ctx context.Context) (net.Conn, error), options ...connect.ClientOption) *Guest {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols:   protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	// guestd refuses compression.
	options = append(options, connect.WithAcceptCompression("gzip", nil, nil))
	const base = "http://guest"
	return &Guest{
		ProcessClient: guestv1connect.NewProcessClient(client, base, options...),
		Files:         guestv1connect.NewFilesystemClient(client, base, options...),
		Packages:      guestv1connect.NewPackagesClient(client, base, options...),
		System:        guestv1connect.NewSystemClient(client, base, options...),
		dial:          dial, options: options,
	}
}

// alone returns clients with a connection of their own, and what cuts it as a
// network does: a client that cancels may still say that its side is complete.
func (g *Guest) alone(t *testing.T) (own *Guest, cut func()) {
	t.Helper()
	var mu sync.Mutex
	var conns []net.Conn
	own = Dial(t, func(ctx context.Context) (net.Conn, error) {
		conn, err := g.dial(ctx)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			conns = append(conns, conn)
		}
		return conn, err
	}, g.options...)
	return own, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}

// Unix dials a Unix socket.
func Unix(path string) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}

// refused holds that a call was answered with the code, and that the answer
// names the culprit.
func refused(t *testing.T, err error, code connect.Code, words string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, connect.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, words)
}
