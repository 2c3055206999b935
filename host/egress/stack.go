// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/stacklok/go-microvm/net/topology"
	"gvisor.dev/gvisor/pkg/tcpip"
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

const (
	nicID tcpip.NICID = 1
	// sendQueue is how many frames may wait for the guest to take them; more
	// are dropped, as a network card would.
	sendQueue = 1024
	// tcpBuffer is the most that one direction of one TCP flow holds, in
	// bytes. It bounds what a guest can make the supervisor keep:
	// maxTCPFlows times both directions.
	tcpBuffer = 256 << 10
	// tcpTimeWait is short because nothing on a Unix socket arrives late. While
	// it lasts, a guest that uses the port again waits a second for its next
	// SYN: the stack drops the first.
	tcpTimeWait = 10 * time.Millisecond
)

// newStack builds a stack that accepts packets for any address.
func newStack() (*stack.Stack, *channel.Endpoint, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	ep, err := configureStack(s)
	if err != nil {
		s.Destroy()
		return nil, nil, err
	}
	return s, ep, nil
}

func configureStack(s *stack.Stack) (*channel.Endpoint, error) {
	mac, err := net.ParseMAC(topology.GatewayMAC)
	if err != nil {
		return nil, err
	}
	ep := channel.New(sendQueue, topology.MTU+header.EthernetMinimumSize, tcpip.LinkAddress(mac))
	// A Unix socket does not corrupt packets.
	ep.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	if err := s.CreateNIC(nicID, ethernet.New(ep)); err != nil {
		return nil, fmt.Errorf("create interface: %s", err)
	}
	gateway := tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: stackAddr(gatewayIP).WithPrefix(),
	}
	if err := s.AddProtocolAddress(nicID, gateway, stack.AddressProperties{}); err != nil {
		return nil, fmt.Errorf("set gateway address: %s", err)
	}
	// Together: take packets for every address and answer in its name.
	if err := s.SetPromiscuousMode(nicID, true); err != nil {
		return nil, fmt.Errorf("accept all addresses: %s", err)
	}
	if err := s.SetSpoofing(nicID, true); err != nil {
		return nil, fmt.Errorf("answer for all addresses: %s", err)
	}
	net4, err := tcpip.NewSubnet(stackAddr(subnet.Addr()), tcpip.MaskFromBytes(net.CIDRMask(subnet.Bits(), 32)))
	if err != nil {
		return nil, err
	}
	s.SetRouteTable([]tcpip.Route{{Destination: net4, NIC: nicID}})
	return ep, setTCPOptions(s)
}

func setTCPOptions(s *stack.Stack) error {
	var (
		send    = tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: tcpBuffer, Max: tcpBuffer}
		receive = tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: tcpBuffer, Max: tcpBuffer}
		wait    = tcpip.TCPTimeWaitTimeoutOption(tcpTimeWait)
		sack    = tcpip.TCPSACKEnabled(true)
	)
	for _, opt := range []tcpip.SettableTransportProtocolOption{&send, &receive, &wait, &sack} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("set tcp option %T: %s", opt, err)
		}
	}
	return nil
}

// forward takes over every flow that no socket of the stack itself owns.
func (n *Network) forward() {
	t := tcp.NewForwarder(n.stack, tcpBuffer, maxTCPFlows, n.forwardTCP)
	n.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, t.HandlePacket)
	n.stack.SetTransportProtocolHandler(udp.ProtocolNumber, n.forwardUDP)
}

func stackAddr(a netip.Addr) tcpip.Address { return tcpip.AddrFrom4(a.As4()) }

// addrPort turns a destination of the stack into one to dial. The stack speaks
// IPv4 only; any other length gives the zero value, which the policy refuses.
func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(addr, port)
}
