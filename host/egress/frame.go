// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// admit says whether a frame from the guest may enter the stack: ARP for the
// gateway, and TCP, UDP and pings of the gateway from the guest's own address.
// All else is dropped without a word, IPv6 and VLAN tags included.
//
// It is not the policy, which judges what is dialled. It keeps the stack from
// answering in the name of others, which it would because it accepts packets
// for every address: to ARP, where it would claim the guest's own address and
// so fail the guest's duplicate detection, and to pings, where the whole world
// would seem reachable. And it spares the stack what no guest needs: options,
// foreign sources, other protocols.
func admit(frame []byte) bool {
	if len(frame) < header.EthernetMinimumSize {
		return false
	}
	payload := frame[header.EthernetMinimumSize:]
	switch header.Ethernet(frame).Type() {
	case header.ARPProtocolNumber:
		return admitARP(header.ARP(payload))
	case header.IPv4ProtocolNumber:
		return admitIPv4(header.IPv4(payload))
	default:
		return false
	}
}

func admitARP(p header.ARP) bool {
	return p.IsValid() && [4]byte(p.ProtocolAddressTarget()) == gatewayIP.As4()
}

func admitIPv4(p header.IPv4) bool {
	// IsValid checks the version and that both lengths lie within the frame,
	// which may be longer: Ethernet pads (IEEE 802.3 §3.2.8).
	if !p.IsValid(len(p)) || int(p.HeaderLength()) != header.IPv4MinimumSize {
		return false
	}
	src, dst := p.SourceAddress().As4(), p.DestinationAddress().As4()
	if src != guestIP.As4() && (src != [4]byte{} || p.Protocol() != uint8(header.UDPProtocolNumber)) {
		return false // 0.0.0.0 asks for a lease (RFC 2131 §4.1)
	}
	switch p.TransportProtocol() {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		return true
	case header.ICMPv4ProtocolNumber:
		return dst == gatewayIP.As4()
	default:
		return false
	}
}
