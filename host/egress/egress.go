// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/stacklok/go-microvm/net/topology"
	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Mode says what a guest may reach.
type Mode string

const (
	// Open reaches every public address, and nothing of the host or its
	// private networks.
	Open Mode = "open"
	// Allow reaches listed host names and ports only.
	Allow Mode = "allow"
	// None has no network interface at all.
	None Mode = "none"
)

// Config describes the network of one VM.
type Config struct {
	// Mode is Open. Allow is not built yet, and a VM with None needs no
	// Network; New refuses both.
	Mode Mode
	// AllowPrivate opens parts of the private ranges on purpose, for instance
	// a package mirror. An address of the host itself is opened only by a
	// prefix of that one address (a /32). See policy.go for what no prefix
	// opens.
	AllowPrivate []netip.Prefix
	// Logger receives refusals at debug level. Nil discards.
	Logger *slog.Logger
}

// GuestConfig is what the guest has to be told about its interface. The values
// are the same for every VM: each has a network of its own.
type GuestConfig struct {
	MAC net.HardwareAddr
	// Addr is the guest's address with the length of its subnet.
	Addr netip.Prefix
	// Gateway is the default route and DNS the resolver; both are the stack.
	Gateway netip.Addr
	DNS     netip.Addr
	// MTU in bytes, without the Ethernet header.
	MTU int
}

// guestMAC is locally administered, next to the gateway's.
var guestMAC = net.HardwareAddr{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xef}

var (
	gatewayIP = netip.MustParseAddr(topology.GatewayIP)
	guestIP   = netip.MustParseAddr(topology.GuestIP)
	subnet    = netip.MustParsePrefix(topology.Subnet)
)

// Network is a running network of one VM. Its methods may be called
// concurrently.
type Network struct {
	log    *slog.Logger
	policy *policy
	dialer dialer
	// quota bounds the log lines that a guest can cause.
	quota *rate.Limiter

	stack    *stack.Stack
	endpoint *channel.Endpoint
	dns      *dnsServer
	dhcp     *dhcpServer

	// ctx ends with the network. It is nobody's child: neither a boot nor a
	// request that happens to start the network may end it.
	ctx    context.Context
	cancel context.CancelFunc

	tcpSlots chan struct{}
	udpSlots chan struct{}

	mu     sync.Mutex
	closed bool
	link   *net.UnixConn // our end, nil until Attach
	// work counts the goroutines of flows and of the link. It is added to
	// under mu while closed is false, so that Close can wait for it.
	work sync.WaitGroup
	// done is closed when Close has finished.
	done chan struct{}
}

// New starts a network. It lives until Close.
func New(cfg Config) (*Network, error) {
	return newNetwork(cfg, outside{
		dialer:    &net.Dialer{},
		resolver:  hostResolver,
		hostAddrs: net.InterfaceAddrs,
	})
}

// outside is what a Network uses of the host.
type outside struct {
	dialer    dialer
	resolver  resolver
	hostAddrs func() ([]net.Addr, error)
}

// dialer is the part of net.Dialer that takes addresses only: a name could not
// be judged before it is dialled.
type dialer interface {
	DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.TCPConn, error)
	DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.UDPConn, error)
}

func newNetwork(cfg Config, host outside) (*Network, error) {
	switch cfg.Mode {
	case Open:
	case Allow:
		return nil, errors.New(`network mode "allow" is not available yet: use "open" or "none"`)
	case None:
		return nil, errors.New(`network mode "none" has no network to start`)
	default:
		return nil, fmt.Errorf("unknown network mode %q: use %q or %q", cfg.Mode, Open, None)
	}
	pol, err := newPolicy(cfg.AllowPrivate, host.hostAddrs)
	if err != nil {
		return nil, err
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Network{
		log:      log,
		policy:   pol,
		dialer:   host.dialer,
		quota:    rate.NewLimiter(rate.Every(time.Second), 20),
		tcpSlots: make(chan struct{}, maxTCPFlows),
		udpSlots: make(chan struct{}, maxUDPFlows),
		done:     make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.startGateway(host.resolver); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// startGateway builds the stack and the services on the gateway's address.
func (n *Network) startGateway(r resolver) error {
	var err error
	if n.stack, n.endpoint, err = newStack(); err != nil {
		return fmt.Errorf("create network stack: %w", err)
	}
	n.forward()
	if n.dns, err = startDNS(n.ctx, n.stack, r); err != nil {
		return fmt.Errorf("start dns on the gateway: %w", err)
	}
	if n.dhcp, err = startDHCP(n.stack, n.log); err != nil {
		return fmt.Errorf("start dhcp on the gateway: %w", err)
	}
	return nil
}

// Attach returns the VMM's end of the link: Ethernet frames, each with a 4-byte
// big-endian length in front (QEMU's stream format). The caller owns it. There
// is one link in a network's life; its end is the end of all flows.
func (n *Network) Attach() (*net.UnixConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, net.ErrClosed
	}
	if n.link != nil {
		return nil, errors.New("network is already attached to a VM")
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("create network socket: %w", err)
	}
	n.link = ours
	n.work.Go(func() { n.receive(ours) })
	n.work.Go(func() { n.send(ours) })
	return theirs, nil
}

// Guest returns what the guest has to be told.
func (n *Network) Guest() GuestConfig {
	return GuestConfig{
		MAC:     append(net.HardwareAddr(nil), guestMAC...),
		Addr:    netip.PrefixFrom(guestIP, subnet.Bits()),
		Gateway: gatewayIP,
		DNS:     gatewayIP,
		MTU:     topology.MTU,
	}
}

// Close ends all flows and returns when every goroutine of the network has
// ended. It is idempotent.
func (n *Network) Close() error {
	n.mu.Lock()
	first := !n.closed
	n.closed = true
	link := n.link
	n.mu.Unlock()
	if !first {
		<-n.done
		return nil
	}
	defer close(n.done)

	n.cancel()
	if link != nil {
		_ = link.Close()
	}
	// After cancel, so that a lookup in progress does not hold up the answer
	// that the server waits for; before the stack, whose sockets they use.
	n.dns.close()
	n.dhcp.close()
	if n.stack == nil {
		return nil
	}
	n.waitForWork()
	n.stack.Close()
	n.stack.Wait()
	n.endpoint.Close()
	return nil
}

// waitForWork waits for the flows. The stack's half of a handshake with the
// guest takes no context, and ends early only when its endpoint is aborted; one
// can begin while the endpoints are walked, hence the repetition.
func (n *Network) waitForWork() {
	idle := make(chan struct{})
	go func() {
		n.work.Wait()
		close(idle)
	}()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		for _, ep := range n.stack.RegisteredEndpoints() {
			ep.Abort()
		}
		select {
		case <-idle:
			return
		case <-again.C:
		}
	}
}

// begin takes a slot for a flow, to be given back by end. It fails when all are
// taken or the network is closing.
func (n *Network) begin(slots chan struct{}) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.ctx.Err() != nil {
		return net.ErrClosed
	}
	select {
	case slots <- struct{}{}:
		n.work.Add(1)
		return nil
	default:
		return fmt.Errorf("all %d flows of this kind are in use", cap(slots))
	}
}

func (n *Network) end(slots chan struct{}) {
	<-slots
	n.work.Done()
}

// refused logs that a flow was not made. Most refusals are told to the guest at
// once, so a line here is for whoever debugs, and only some are written.
func (n *Network) refused(network string, dst netip.AddrPort, why error) {
	if n.log.Enabled(n.ctx, slog.LevelDebug) && n.quota.Allow() {
		n.log.Debug("network flow refused", "network", network, "dst", dst, "err", why)
	}
}
