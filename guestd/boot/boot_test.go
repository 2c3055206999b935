// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"bufio"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/vsock"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func TestHandshake(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		answer  func(conn net.Conn) error
		refused bool
		bad     string
	}{
		{"welcome", func(conn net.Conn) error {
			_, err := protodelim.MarshalTo(conn, &guestv1.Welcome{Protocol: 1})
			return err
		}, false, ""},
		{"refusal", func(conn net.Conn) error {
			_, err := protodelim.MarshalTo(conn, &guestv1.Welcome{Refusal: "host speaks 7 to 9"})
			return err
		}, true, "host speaks 7 to 9"},
		{"hang up", func(net.Conn) error { return nil }, false, "read welcome"},
		{"too large", func(conn net.Conn) error {
			_, err := conn.Write([]byte{0xff, 0xff, 0x7f, 0})
			return err
		}, false, "read welcome"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := net.Pipe()
			host := make(chan error, 1)
			go func() {
				defer theirs.Close()
				var ready guestv1.Ready
				err := protodelim.UnmarshalFrom(bufio.NewReader(theirs), &ready)
				if err == nil && ready.GetAgent().GetVersion() != "v1" {
					err = errors.New("the Ready is another one")
				}
				if err == nil {
					err = tc.answer(theirs)
				}
				host <- err
			}()
			protocol, err := handshake(t.Context(), ours, &guestv1.Ready{Agent: &guestv1.AgentInfo{Version: "v1"}})
			<-host // an early end of ours is no failure of the host's
			if tc.bad == "" {
				require.NoError(t, err)
				require.EqualValues(t, 1, protocol)
				return
			}
			require.ErrorContains(t, err, tc.bad)
			require.Equal(t, tc.refused, errors.Is(err, ErrRefused))
		})
	}
}

// peers is a listener with connections from given context ids.
type peers struct {
	net.Listener
	cids   []uint32
	closed []uint32
}

type peer struct {
	net.Conn
	from *peers
	cid  uint32
}

func (p *peer) RemoteAddr() net.Addr { return &vsock.Addr{ContextID: p.cid} }

func (p *peer) Close() error {
	p.from.closed = append(p.from.closed, p.cid)
	return nil
}

func (p *peers) Accept() (net.Conn, error) {
	if len(p.cids) == 0 {
		return nil, net.ErrClosed
	}
	cid := p.cids[0]
	p.cids = p.cids[1:]
	return &peer{from: p, cid: cid}, nil
}

func TestOnlyTheHostConnects(t *testing.T) {
	t.Parallel()
	from := &peers{cids: []uint32{3, vsock.Local, vsock.Host, vsock.Hypervisor, 4, vsock.Host}}
	l := hostOnly{from}
	for range 2 {
		conn, err := l.Accept()
		require.NoError(t, err)
		require.Equal(t, &vsock.Addr{ContextID: vsock.Host}, conn.RemoteAddr())
	}
	_, err := l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	require.Equal(t, []uint32{3, vsock.Local, vsock.Hypervisor, 4}, from.closed)
}

// TestHandover passes phases from stage 1 to stage 2. Not parallel: it sets a
// variable of this process.
func TestHandover(t *testing.T) {
	var one stopwatch
	one.lap("kernel")
	one.lap("root")
	first := handed{one, offByRestart}
	env, err := first.environ()
	require.NoError(t, err)
	value, ok := strings.CutPrefix(env[len(env)-1], handover+"=")
	require.True(t, ok)

	_, second, err := takeOver()
	require.NoError(t, err)
	require.False(t, second, "without the variable this is stage 1")
	t.Setenv(handover, value)
	two, second, err := takeOver()
	require.NoError(t, err)
	require.True(t, second)
	require.Equal(t, first, two)
	_, again, err := takeOver()
	require.NoError(t, err)
	require.False(t, again, "commands do not inherit it")
	t.Setenv(handover, "junk")
	_, second, err = takeOver()
	require.Error(t, err)
	require.True(t, second)
}

// TestPhasesAddUp checks that no time is counted twice or lost.
func TestPhasesAddUp(t *testing.T) {
	t.Parallel()
	var w stopwatch
	for _, name := range []string{"a", "b", "c"} {
		w.lap(name)
	}
	var sum time.Duration
	for _, p := range w.Phases {
		require.GreaterOrEqual(t, p.Duration, time.Duration(0))
		sum += p.Duration
	}
	require.Equal(t, w.Last, sum)
	require.LessOrEqual(t, sum, sinceBoot())
}

// TestMountTables keeps the order that mounting needs: a mount point inside
// another file system comes after it, and tmpfs have a limit.
func TestMountTables(t *testing.T) {
	t.Parallel()
	table := append(append([]mount(nil), kernelMounts...), systemMounts...)
	seen := map[string]bool{}
	for _, m := range table {
		require.True(t, filepath.IsAbs(m.target), m)
		require.False(t, seen[m.target], m)
		for later := range seen {
			require.False(t, strings.HasPrefix(later, m.target+"/"), "%s hides %s", m, later)
		}
		seen[m.target] = true
		require.Equal(t, m.fstype == "tmpfs", strings.Contains(m.data, "size="), m)
	}
}
