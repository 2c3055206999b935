// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// testTimeout is long: it ends a test that hangs and measures nothing.
const testTimeout = 30 * time.Second

// testNetwork is a Network whose dials to public addresses go to servers of the
// test, and which is closed with it.
type testNetwork struct {
	*Network
	routes *routes
}

func newTestNetwork(t testing.TB, cfg Config, res resolver) *testNetwork {
	t.Helper()
	if cfg.Mode == "" {
		cfg.Mode = Open
	}
	if res == nil {
		res = hostResolver
	}
	r := &routes{to: make(map[netip.AddrPort]netip.AddrPort)}
	n, err := newNetwork(cfg, outside{dialer: r, resolver: res, hostAddrs: net.InterfaceAddrs})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return &testNetwork{Network: n, routes: r}
}

// routes dials a public address at the loopback server that stands for it, and
// records what was dialled.
type routes struct {
	mu     sync.Mutex
	to     map[netip.AddrPort]netip.AddrPort
	dialed []netip.AddrPort
}

func (r *routes) add(public string, server net.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to[netip.MustParseAddrPort(public)] = netip.MustParseAddrPort(server.String())
}

func (r *routes) find(dst netip.AddrPort) netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dialed = append(r.dialed, dst)
	if to, ok := r.to[dst]; ok {
		return to
	}
	return dst
}

func (r *routes) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.dialed)
}

func (r *routes) DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.TCPConn, error) {
	return new(net.Dialer).DialTCP(ctx, network, laddr, r.find(raddr))
}

func (r *routes) DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.UDPConn, error) {
	return new(net.Dialer).DialUDP(ctx, network, laddr, r.find(raddr))
}

// guest is the other end of the link: a stack of its own, configured as guestd
// configures Linux.
type guest struct {
	stack *stack.Stack
	ep    *channel.Endpoint
}

func attachGuest(t testing.TB, n *Network) *guest {
	t.Helper()
	conn, err := n.Attach()
	require.NoError(t, err)
	cfg := n.Guest()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	g := &guest{stack: s, ep: channel.New(4096, uint32(cfg.MTU)+header.EthernetMinimumSize, tcpip.LinkAddress(cfg.MAC))}
	require.Nil(t, s.CreateNIC(nicID, ethernet.New(g.ep)))
	require.Nil(t, s.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: stackAddr(cfg.Addr.Addr()), PrefixLen: cfg.Addr.Bits()},
	}, stack.AddressProperties{}))
	local, err := tcpip.NewSubnet(stackAddr(cfg.Addr.Masked().Addr()), tcpip.MaskFromBytes(net.CIDRMask(cfg.Addr.Bits(), 32)))
	require.NoError(t, err)
	s.SetRouteTable([]tcpip.Route{
		{Destination: local, NIC: nicID},
		{Destination: header.IPv4EmptySubnet, Gateway: stackAddr(cfg.Gateway), NIC: nicID},
	})

	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		_ = readFrames(conn, func(frame []byte) {
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
			g.ep.InjectInbound(0, pkt)
			pkt.DecRef()
		})
	})
	work.Go(func() {
		for {
			pkt := g.ep.ReadContext(ctx)
			if pkt == nil {
				return
			}
			frame := appendFrame(nil, pkt)
			pkt.DecRef()
			if _, err := conn.Write(frame); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
		work.Wait()
		s.Destroy()
	})
	return g
}

func (g *guest) dialTCP(ctx context.Context, addr string) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, g.stack, fullAddr(addr), ipv4.ProtocolNumber)
}

func (g *guest) dialUDP(t *testing.T, addr string) *gonet.UDPConn {
	t.Helper()
	raddr := fullAddr(addr)
	conn, err := gonet.DialUDP(g.stack, nil, &raddr, ipv4.ProtocolNumber)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func fullAddr(s string) tcpip.FullAddress {
	ap := netip.MustParseAddrPort(s)
	return tcpip.FullAddress{NIC: nicID, Addr: stackAddr(ap.Addr()), Port: ap.Port()}
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}
