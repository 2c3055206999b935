// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxTCPFlows at a time, those being dialled included. A handshake that
	// the guest leaves unfinished counts until the stack gives it up, after
	// two minutes at most.
	maxTCPFlows = 512
	// dialTimeout for one destination, after which the guest is reset.
	dialTimeout = 30 * time.Second
	// lastAckTimeout is how long a finished flow may wait for the guest to
	// take and acknowledge the last bytes. Until then it keeps its slot:
	// otherwise a guest could pile up full send buffers.
	lastAckTimeout = 10 * time.Second
)

// forwardTCP handles one SYN of the guest, in a goroutine of its own. The
// destination is dialled before the guest's handshake is answered, so that the
// guest sees a refusal as one.
func (n *Network) forwardTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	dst := addrPort(id.LocalAddress, id.LocalPort)
	if err := n.begin(n.tcpSlots); err != nil {
		n.refused("tcp", dst, err)
		r.Complete(true)
		return
	}
	defer n.end(n.tcpSlots)

	remote, err := n.dialTCP(dst)
	if err != nil {
		n.refused("tcp", dst, err)
		r.Complete(true)
		return
	}
	defer remote.Close()

	f := tcpFlow{remote: remote}
	ep, tcpErr := r.CreateEndpoint(&f.queue)
	r.Complete(false)
	if tcpErr != nil {
		return // the guest gave up meanwhile, or the network is closing
	}
	f.ep, f.guest = ep, gonet.NewTCPConn(&f.queue, ep)
	f.run(n.ctx)
}

func (n *Network) dialTCP(dst netip.AddrPort) (*net.TCPConn, error) {
	if err := n.policy.permit(dst.Addr()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	defer cancel()
	return n.dialer.DialTCP(ctx, "tcp4", netip.AddrPort{}, dst)
}

// tcpFlow joins a connection of the guest with one of the host.
type tcpFlow struct {
	remote *net.TCPConn
	guest  *gonet.TCPConn
	ep     tcpip.Endpoint
	queue  waiter.Queue
}

// run copies both ways until both have ended or ctx does.
func (f *tcpFlow) run(ctx context.Context) {
	var copies sync.WaitGroup
	copies.Go(func() { f.copy(f.remote, f.guest) })
	copies.Go(func() { f.copy(f.guest, f.remote) })

	finished := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ctx.Done():
			f.abort()
		case <-finished:
		}
	})
	copies.Wait()
	close(finished)
	watch.Wait()
	f.closeGuest(ctx)
}

// copy passes on the end of a direction as such, and an error as a reset of
// both sides: a broken download must not look complete.
func (f *tcpFlow) copy(dst interface {
	io.Writer
	CloseWrite() error
}, src io.Reader) {
	if _, err := io.Copy(dst, src); err != nil {
		f.abort()
		return
	}
	_ = dst.CloseWrite() // fails only where the other direction has aborted
}

func (f *tcpFlow) abort() {
	f.ep.Abort()
	_ = f.remote.SetLinger(0)
	_ = f.remote.Close()
}

// closeGuest closes the guest's side and waits until the stack holds nothing
// more of it.
func (f *tcpFlow) closeGuest(ctx context.Context) {
	entry, changed := waiter.NewChannelEntry(waiter.EventHUp)
	f.queue.EventRegister(&entry)
	defer f.queue.EventUnregister(&entry)
	_ = f.guest.Close()

	ctx, cancel := context.WithTimeout(ctx, lastAckTimeout)
	defer cancel()
	for {
		switch tcp.EndpointState(f.ep.State()) {
		case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.ep.Abort()
			return
		}
	}
}
