// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxUDPFlows at a time; one flow is one pair of addresses and ports.
	maxUDPFlows = 512
	// udpIdle ends a flow without a packet in either direction.
	udpIdle = 60 * time.Second
	// maxDatagram in bytes, the largest UDP payload over IPv4.
	maxDatagram = 65507
)

// forwardUDP handles a packet that belongs to no flow yet. It runs on the
// link's goroutine, where nothing below blocks: connecting a UDP socket sends
// nothing. A false result makes the stack answer "port unreachable".
func (n *Network) forwardUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	dst := addrPort(id.LocalAddress, id.LocalPort)
	if err := n.begin(n.udpSlots); err != nil {
		n.refused("udp", dst, err)
		return false
	}
	f, err := n.startUDP(dst, id, pkt)
	if err != nil {
		n.end(n.udpSlots)
		n.refused("udp", dst, err)
		return false
	}
	go func() {
		defer n.end(n.udpSlots)
		f.run(n.ctx.Done())
	}()
	return true
}

// startUDP dials dst and makes the guest's socket, with pkt in its queue.
func (n *Network) startUDP(dst netip.AddrPort, id stack.TransportEndpointID, pkt *stack.PacketBuffer) (*udpFlow, error) {
	if err := n.policy.permit(dst.Addr()); err != nil {
		return nil, err
	}
	remote, err := n.dialer.DialUDP(n.ctx, "udp4", netip.AddrPort{}, dst)
	if err != nil {
		return nil, err
	}
	f := &udpFlow{remote: remote}
	var created tcpip.Error = &tcpip.ErrAborted{}
	udp.NewForwarder(n.stack, func(r *udp.ForwarderRequest) {
		var ep tcpip.Endpoint
		if ep, created = r.CreateEndpoint(&f.queue); created == nil {
			f.guest = gonet.NewUDPConn(&f.queue, ep)
		}
	}).HandlePacket(id, pkt)
	if created != nil {
		_ = remote.Close()
		return nil, fmt.Errorf("accept packet of the guest: %s", created)
	}
	return f, nil
}

// udpFlow joins a UDP socket of the guest's with one of the host.
type udpFlow struct {
	remote *net.UDPConn
	guest  *gonet.UDPConn
	queue  waiter.Queue
}

// run copies both ways until the flow is idle, either side fails (the remote
// port answers "unreachable", say) or stop is closed.
func (f *udpFlow) run(stop <-chan struct{}) {
	active := make(chan struct{}, 1)
	ended := make(chan struct{}, 2)
	var copies sync.WaitGroup
	copies.Go(func() { copyDatagrams(f.remote, f.guest, active); ended <- struct{}{} })
	copies.Go(func() { copyDatagrams(f.guest, f.remote, active); ended <- struct{}{} })

	idle := time.NewTimer(udpIdle)
	defer idle.Stop()
	for open := true; open; {
		select {
		case <-active:
			idle.Reset(udpIdle)
		case <-idle.C:
			open = false
		case <-ended:
			open = false
		case <-stop:
			open = false
		}
	}
	_ = f.remote.Close()
	_ = f.guest.Close()
	copies.Wait()
}

func copyDatagrams(dst, src net.Conn, active chan<- struct{}) {
	buf := make([]byte, maxDatagram)
	for {
		size, err := src.Read(buf)
		if err != nil {
			return
		}
		if _, err := dst.Write(buf[:size]); err != nil {
			return
		}
		select {
		case active <- struct{}{}:
		default: // one is waiting already
		}
	}
}
