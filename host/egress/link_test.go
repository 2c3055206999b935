// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stacklok/go-microvm/net/topology"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

var broadcastMAC = net.HardwareAddr{255, 255, 255, 255, 255, 255}

// ether puts an Ethernet header from the guest in front of a payload.
func ether(dst net.HardwareAddr, kind tcpip.NetworkProtocolNumber, payload []byte) []byte {
	frame := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(payload))
	header.Ethernet(frame).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(guestMAC), DstAddr: tcpip.LinkAddress(dst), Type: kind,
	})
	return append(frame, payload...)
}

func gatewayMAC() net.HardwareAddr {
	mac, err := net.ParseMAC(topology.GatewayMAC)
	if err != nil {
		panic(err)
	}
	return mac
}

// packet is an IPv4 packet to the gateway's hardware address.
func packet(src, dst string, proto tcpip.TransportProtocolNumber, payload []byte) []byte {
	ip := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(payload))
	header.IPv4(ip).Encode(&header.IPv4Fields{
		TotalLength: uint16(cap(ip)), TTL: 64, Protocol: uint8(proto),
		SrcAddr: stackAddr(netip.MustParseAddr(src)), DstAddr: stackAddr(netip.MustParseAddr(dst)),
	})
	header.IPv4(ip).SetChecksum(^header.IPv4(ip).CalculateChecksum())
	return ether(gatewayMAC(), header.IPv4ProtocolNumber, append(ip, payload...))
}

func syn(port uint16) []byte {
	seg := make([]byte, header.TCPMinimumSize)
	header.TCP(seg).Encode(&header.TCPFields{
		SrcPort: 40000, DstPort: port, SeqNum: 1, DataOffset: header.TCPMinimumSize,
		Flags: header.TCPFlagSyn, WindowSize: 1000,
	})
	return seg
}

func datagram(port uint16, payload []byte) []byte {
	d := make([]byte, header.UDPMinimumSize, header.UDPMinimumSize+len(payload))
	header.UDP(d).Encode(&header.UDPFields{SrcPort: 68, DstPort: port, Length: uint16(cap(d))})
	return append(d, payload...)
}

func echo() []byte {
	m := make([]byte, header.ICMPv4MinimumSize+8)
	header.ICMPv4(m).SetType(header.ICMPv4Echo)
	header.ICMPv4(m).SetChecksum(^checksum.Checksum(m, 0))
	return m
}

func arpFor(target string) []byte {
	p := make(header.ARP, header.ARPSize)
	p.SetIPv4OverEthernet()
	p.SetOp(header.ARPRequest)
	copy(p.HardwareAddressSender(), guestMAC)
	copy(p.ProtocolAddressSender(), guestIP.AsSlice())
	copy(p.ProtocolAddressTarget(), netip.MustParseAddr(target).AsSlice())
	return ether(broadcastMAC, header.ARPProtocolNumber, p)
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	withOptions := packet(topology.GuestIP, "8.8.8.8", header.TCPProtocolNumber, append(make([]byte, 4), syn(80)...))
	header.IPv4(withOptions[header.EthernetMinimumSize:]).SetHeaderLength(24)
	tooLong := packet(topology.GuestIP, "8.8.8.8", header.TCPProtocolNumber, syn(80))
	header.IPv4(tooLong[header.EthernetMinimumSize:]).SetTotalLength(1000)
	tests := map[string]struct {
		frame []byte
		want  bool
	}{
		"tcp":              {packet(topology.GuestIP, "8.8.8.8", header.TCPProtocolNumber, syn(80)), true},
		"udp":              {packet(topology.GuestIP, "8.8.8.8", header.UDPProtocolNumber, datagram(53, nil)), true},
		"padded":           {append(packet(topology.GuestIP, "8.8.8.8", header.TCPProtocolNumber, syn(80)), 0, 0), true},
		"lease":            {packet("0.0.0.0", "255.255.255.255", header.UDPProtocolNumber, datagram(67, nil)), true},
		"ping gateway":     {packet(topology.GuestIP, topology.GatewayIP, header.ICMPv4ProtocolNumber, echo()), true},
		"ping world":       {packet(topology.GuestIP, "8.8.8.8", header.ICMPv4ProtocolNumber, echo()), false},
		"igmp":             {packet(topology.GuestIP, "224.0.0.1", header.IGMPProtocolNumber, make([]byte, 8)), false},
		"foreign source":   {packet("8.8.8.8", "1.1.1.1", header.TCPProtocolNumber, syn(80)), false},
		"gateway's source": {packet(topology.GatewayIP, "1.1.1.1", header.TCPProtocolNumber, syn(80)), false},
		"tcp from nowhere": {packet("0.0.0.0", "1.1.1.1", header.TCPProtocolNumber, syn(80)), false},
		"ip options":       {withOptions, false},
		"length beyond":    {tooLong, false},
		"arp gateway":      {arpFor(topology.GatewayIP), true},
		"arp itself":       {arpFor(topology.GuestIP), false},
		"arp other":        {arpFor("192.168.127.3"), false},
		"arp short":        {arpFor(topology.GatewayIP)[:30], false},
		"ipv6":             {ether(gatewayMAC(), header.IPv6ProtocolNumber, make([]byte, 60)), false},
		"vlan":             {ether(gatewayMAC(), 0x8100, make([]byte, 60)), false},
		"header only":      {ether(gatewayMAC(), header.IPv4ProtocolNumber, nil), false},
		"short":            {make([]byte, 13), false},
		"empty":            {nil, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, admit(tt.frame))
		})
	}
}

// rawLink is a guest that writes and reads frames as it likes.
type rawLink struct {
	*net.UnixConn
	frames chan []byte // closed at the end of the link
}

func attachRaw(t *testing.T, n *Network) *rawLink {
	t.Helper()
	conn, err := n.Attach()
	require.NoError(t, err)
	l := &rawLink{UnixConn: conn, frames: make(chan []byte, 1024)}
	var work sync.WaitGroup
	work.Go(func() {
		defer close(l.frames)
		_ = readFrames(conn, func(f []byte) { l.frames <- bytes.Clone(f) })
	})
	t.Cleanup(func() { _ = conn.Close(); work.Wait() })
	return l
}

func (l *rawLink) write(t *testing.T, frame []byte) {
	t.Helper()
	_, err := l.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	require.NoError(t, err)
}

func (l *rawLink) read(t *testing.T) []byte {
	t.Helper()
	select {
	case f, ok := <-l.frames:
		require.True(t, ok, "link has ended")
		return f
	case <-time.After(testTimeout):
		require.Fail(t, "no frame")
		return nil
	}
}

func TestGatewayAnswersForItselfOnly(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, nil)
	l := attachRaw(t, n.Network)
	l.write(t, arpFor(topology.GuestIP)) // duplicate address detection
	l.write(t, arpFor("192.168.127.9"))
	l.write(t, packet(topology.GuestIP, "8.8.8.8", header.ICMPv4ProtocolNumber, echo()))
	l.write(t, arpFor(topology.GatewayIP))
	reply := l.read(t) // the first, because frames are handled in order
	require.Equal(t, header.ARPProtocolNumber, header.Ethernet(reply).Type())
	arp := header.ARP(reply[header.EthernetMinimumSize:])
	require.Equal(t, header.ARPReply, arp.Op())
	require.Equal(t, gatewayIP.AsSlice(), arp.ProtocolAddressSender())

	l.write(t, packet(topology.GuestIP, topology.GatewayIP, header.ICMPv4ProtocolNumber, echo()))
	ip := header.IPv4(l.read(t)[header.EthernetMinimumSize:])
	require.Equal(t, header.ICMPv4ProtocolNumber, ip.TransportProtocol())
	require.Equal(t, header.ICMPv4EchoReply, header.ICMPv4(ip.Payload()).Type())
}

func TestLoopbackIsNotDialled(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, nil)
	l := attachRaw(t, n.Network)
	for _, dst := range []string{"127.0.0.1", "127.1.2.3", "0.0.0.0", "224.0.0.1", "255.255.255.255", "192.168.127.255"} {
		l.write(t, packet(topology.GuestIP, dst, header.TCPProtocolNumber, syn(80)))
		l.write(t, packet(topology.GuestIP, dst, header.UDPProtocolNumber, datagram(80, nil)))
	}
	l.write(t, arpFor(topology.GatewayIP)) // answered after all of the above
	for header.Ethernet(l.read(t)).Type() != header.ARPProtocolNumber {
	}
	require.NoError(t, n.Close()) // and with the flows that they began
	require.Zero(t, n.routes.count())
}

func TestDHCP(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, nil)
	l := attachRaw(t, n.Network)
	ask := func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		frame := packet("0.0.0.0", "255.255.255.255", header.UDPProtocolNumber, datagram(67, m.ToBytes()))
		copy(frame, broadcastMAC)
		l.write(t, []byte("not DHCP, and nothing else"))
		l.write(t, frame)
		ip := header.IPv4(l.read(t)[header.EthernetMinimumSize:])
		require.Equal(t, header.UDPProtocolNumber, ip.TransportProtocol())
		reply, err := dhcpv4.FromBytes(header.UDP(ip.Payload()).Payload())
		require.NoError(t, err)
		return reply
	}
	discover, err := dhcpv4.NewDiscovery(guestMAC)
	require.NoError(t, err)
	offer := ask(discover)
	require.Equal(t, dhcpv4.MessageTypeOffer, offer.MessageType())
	request, err := dhcpv4.NewRequestFromOffer(offer)
	require.NoError(t, err)
	ack := ask(request)
	require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType())
	require.Equal(t, topology.GuestIP, ack.YourIPAddr.String())
	require.Equal(t, topology.GatewayIP, ack.Router()[0].String())
	require.Equal(t, topology.GatewayIP, ack.DNS()[0].String())
	require.Equal(t, net.CIDRMask(24, 32), ack.SubnetMask())
	request.UpdateOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 0, 0, 9)))
	require.Equal(t, dhcpv4.MessageTypeNak, ask(request).MessageType())

	stranger, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0, 0, 0, 0, 1})
	require.NoError(t, err)
	reply, err := lease(stranger.ToBytes())
	require.NoError(t, err)
	require.Nil(t, reply)
}

// TestBadStreamEndsTheNetwork: after a length that cannot be, nothing that
// follows can be trusted.
func TestBadStreamEndsTheNetwork(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string][]byte{
		"oversize":  binary.BigEndian.AppendUint32(nil, maxFrame+1),
		"huge":      {0xff, 0xff, 0xff, 0xff},
		"truncated": {0, 0, 0, 60, 1, 2, 3},
		"bare":      {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			n := newTestNetwork(t, Config{Logger: slog.New(slog.NewTextHandler(&out, nil))}, nil)
			l := attachRaw(t, n.Network)
			_, err := l.Write(stream)
			require.NoError(t, err)
			require.NoError(t, l.CloseWrite())
			for range l.frames {
			}
			require.NoError(t, n.Close())
			require.Equal(t, 1, strings.Count(out.String(), "network of the vm ended"), out.String())
		})
	}
}

func TestEndOfTheVMIsQuiet(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	n := newTestNetwork(t, Config{Logger: slog.New(slog.NewTextHandler(&out, nil))}, nil)
	l := attachRaw(t, n.Network)
	l.write(t, arpFor(topology.GatewayIP))
	require.NoError(t, l.CloseWrite())
	for range l.frames {
	}
	require.NoError(t, n.Close())
	require.Empty(t, out.String())
}

// TestGuestThatDoesNotRead floods pings and takes no answer: the frames for it
// are dropped, and Close does not wait for it.
func TestGuestThatDoesNotRead(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, nil)
	conn, err := n.Attach()
	require.NoError(t, err)
	defer conn.Close()
	ping := packet(topology.GuestIP, topology.GatewayIP, header.UDPProtocolNumber, datagram(9, make([]byte, 1200)))
	one := append(binary.BigEndian.AppendUint32(nil, uint32(len(ping))), ping...)
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(testTimeout)))
	_, err = io.Copy(conn, io.LimitReader(repeat(one), int64(len(one)*50000)))
	require.NoError(t, err)
	require.LessOrEqual(t, n.endpoint.NumQueued(), sendQueue)
	require.NoError(t, n.Close())
}

type repeat []byte

func (r repeat) Read(p []byte) (int, error) {
	// Whole copies, so that the next Read starts at the beginning.
	n := 0
	for len(p)-n >= len(r) {
		n += copy(p[n:], r)
	}
	return n, nil
}

// FuzzGuestFrames lets the stack handle whatever a guest may send.
func FuzzGuestFrames(f *testing.F) {
	f.Add(packet(topology.GuestIP, "8.8.8.8", header.TCPProtocolNumber, syn(80)))
	f.Add(packet(topology.GuestIP, topology.GatewayIP, header.TCPProtocolNumber, syn(53)))
	f.Add(packet(topology.GuestIP, topology.GatewayIP, header.UDPProtocolNumber, datagram(53, make([]byte, 30))))
	f.Add(packet("0.0.0.0", "255.255.255.255", header.UDPProtocolNumber, datagram(67, make([]byte, 300))))
	f.Add(packet(topology.GuestIP, topology.GatewayIP, header.ICMPv4ProtocolNumber, echo()))
	f.Add(arpFor(topology.GatewayIP))
	f.Add([]byte{})
	n, err := newNetwork(Config{Mode: Open}, outside{dialer: noDialer{}, resolver: noResolver{}, hostAddrs: hostOf()})
	require.NoError(f, err)
	f.Cleanup(func() { _ = n.Close() })
	conn, err := n.Attach()
	require.NoError(f, err)
	f.Cleanup(func() { _ = conn.Close() })
	go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with conn
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > maxFrame {
			return
		}
		_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
		require.NoError(t, err)
	})
}

// FuzzReadFrames checks that a stream of any bytes ends, and that the frames
// taken from it are its bytes.
func FuzzReadFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7, 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		var again []byte
		err := readFrames(bytes.NewReader(stream), func(frame []byte) {
			again = binary.BigEndian.AppendUint32(again, uint32(len(frame)))
			again = append(again, frame...)
		})
		require.Error(t, err)
		require.True(t, bytes.HasPrefix(stream, again))
		if errors.Is(err, io.EOF) {
			require.Equal(t, len(stream), len(again))
		}
	})
}

type noDialer struct{}

func (noDialer) DialTCP(context.Context, string, netip.AddrPort, netip.AddrPort) (*net.TCPConn, error) {
	return nil, net.ErrClosed
}

func (noDialer) DialUDP(context.Context, string, netip.AddrPort, netip.AddrPort) (*net.UDPConn, error) {
	return nil, net.ErrClosed
}
