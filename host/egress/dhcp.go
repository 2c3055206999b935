// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stacklok/go-microvm/net/topology"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	leaseTime = 24 * time.Hour
	// maxDHCP is above any DHCP message that fits a frame, in bytes.
	maxDHCP = topology.MTU
)

// dhcpServer leases the one address there is to the one guest there is, for
// images that configure their interface by themselves; guestd needs no DHCP.
type dhcpServer struct {
	conn    *gonet.UDPConn
	log     *slog.Logger
	serving sync.WaitGroup
}

func startDHCP(s *stack.Stack, log *slog.Logger) (*dhcpServer, error) {
	queue := new(waiter.Queue)
	ep, err := s.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, queue)
	if err != nil {
		return nil, errors.New(err.String())
	}
	// A client without an address asks and is answered by broadcast.
	ep.SocketOptions().SetBroadcast(true)
	if err := ep.Bind(tcpip.FullAddress{NIC: nicID, Port: dhcpv4.ServerPort}); err != nil {
		ep.Close()
		return nil, errors.New(err.String())
	}
	d := &dhcpServer{conn: gonet.NewUDPConn(queue, ep), log: log}
	d.serving.Go(d.serve)
	return d, nil
}

func (d *dhcpServer) close() {
	if d == nil {
		return
	}
	_ = d.conn.Close()
	d.serving.Wait()
}

func (d *dhcpServer) serve() {
	everyone := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	buf := make([]byte, maxDHCP)
	for {
		size, _, err := d.conn.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		reply, err := lease(buf[:size])
		if err != nil || reply == nil {
			continue
		}
		if _, err := d.conn.WriteTo(reply.ToBytes(), everyone); err != nil {
			d.log.Debug("dhcp reply not sent", "err", err)
		}
	}
}

// lease answers a message of the guest, or returns nil for one that has no
// answer (RFC 2131 §4.3).
func lease(message []byte) (*dhcpv4.DHCPv4, error) {
	request, err := dhcpv4.FromBytes(message)
	if err != nil {
		return nil, err
	}
	if request.OpCode != dhcpv4.OpcodeBootRequest || !bytes.Equal(request.ClientHWAddr, guestMAC) {
		return nil, nil
	}
	var kind dhcpv4.MessageType
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
		if asked := request.RequestedIPAddress(); asked != nil && !asked.Equal(guestIP.AsSlice()) {
			kind = dhcpv4.MessageTypeNak
		}
	default:
		return nil, nil
	}
	gateway := net.IP(gatewayIP.AsSlice())
	if kind == dhcpv4.MessageTypeNak {
		return dhcpv4.NewReplyFromRequest(request,
			dhcpv4.WithMessageType(kind), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)))
	}
	return dhcpv4.NewReplyFromRequest(request,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(guestIP.AsSlice()),
		dhcpv4.WithServerIP(gateway),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)),
		dhcpv4.WithNetmask(net.CIDRMask(subnet.Bits(), 32)),
		dhcpv4.WithRouter(gateway),
		dhcpv4.WithDNS(gateway),
		dhcpv4.WithLeaseTime(uint32(leaseTime/time.Second)),
		dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(topology.MTU)}),
	)
}
