// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stacklok/go-microvm/net/topology"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// closeLimit is far above what Close takes and far below every time-out of the
// stack's own (a handshake is given up after 18 s): flows that Close does not
// abort end too late.
const closeLimit = 5 * time.Second

// stuckDialer never connects, until its context ends.
type stuckDialer struct{ noDialer }

func (stuckDialer) DialTCP(ctx context.Context, _ string, _, _ netip.AddrPort) (*net.TCPConn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestCloseLeavesNoGoroutine is not parallel: it counts those of the process.
func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	for name, use := range map[string]func(t *testing.T, n *testNetwork){
		"unused":   func(*testing.T, *testNetwork) {},
		"attached": func(t *testing.T, n *testNetwork) { attachRaw(t, n.Network) },
		"flows": func(t *testing.T, n *testNetwork) {
			n.routes.add("203.0.113.7:80", server.Addr())
			g := attachGuest(t, n.Network)
			conn, err := g.dialTCP(testContext(t), "203.0.113.7:80")
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			_, err = g.dialUDP(t, "203.0.113.7:53").Write([]byte("x"))
			require.NoError(t, err)
			require.Eventually(t, func() bool { return len(n.udpSlots) == 1 }, testTimeout, time.Millisecond)
		},
		"dialling": func(t *testing.T, n *testNetwork) {
			n.dialer = stuckDialer{}
			l := attachRaw(t, n.Network)
			l.write(t, packet(topology.GuestIP, "203.0.113.7", header.TCPProtocolNumber, syn(80)))
			require.Eventually(t, func() bool { return len(n.tcpSlots) == 1 }, testTimeout, time.Millisecond)
		},
		"handshake": func(t *testing.T, n *testNetwork) { // that the guest never completes
			n.routes.add("203.0.113.7:80", server.Addr())
			l := attachRaw(t, n.Network)
			l.write(t, arpFor(topology.GatewayIP))
			l.read(t)
			l.write(t, packet(topology.GuestIP, "203.0.113.7", header.TCPProtocolNumber, syn(80)))
			synAck := header.TCP(header.IPv4(l.read(t)[header.EthernetMinimumSize:]).Payload())
			require.Equal(t, header.TCPFlagSyn|header.TCPFlagAck, synAck.Flags())
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTestNetwork(t, Config{}, nil)
			use(t, n)
			closed := make(chan error, 1)
			go func() { closed <- n.Close() }()
			select {
			case err := <-closed:
				require.NoError(t, err)
			case <-time.After(closeLimit):
				t.Errorf("Close takes more than %s: a flow was not aborted", closeLimit)
				require.NoError(t, <-closed)
			}
			require.Empty(t, n.tcpSlots)
			require.Empty(t, n.udpSlots)
		})
	}
	// The goroutines of the test's own guest may still be on their way out.
	if !eventually(func() bool { return runtime.NumGoroutine() <= before }) {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, strings.TrimSpace(string(stacks)))
	}
}

func eventually(done func() bool) bool {
	deadline := time.NewTimer(testTimeout)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}
