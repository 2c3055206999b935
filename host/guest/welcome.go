// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/stacklok/waggle/proto"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// maxHandshake bounds a message of the ready handshake, in bytes.
	maxHandshake = 64 << 10
	// maxDrain bounds what is read after the handshake to reach the guest's end
	// of file, in bytes.
	maxDrain = 4 << 10
)

// ErrProtocol is a guestd that speaks no protocol version of this Waggle.
var ErrProtocol = errors.New("guestd and waggle have no protocol version in common")

// Peer is a guestd that has called.
type Peer struct {
	// Ready is what it said of itself.
	Ready *guestv1.Ready
	// Protocol is the version that both use from here on.
	Protocol uint32
}

// Welcome is the host's side of the ready handshake (ready.proto): it reads what
// guestd says of itself and answers with the protocol version to use. It closes
// conn. The guest is told about a refusal as well, so that its console says why.
func Welcome(ctx context.Context, conn net.Conn) (*Peer, error) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	peer, err := welcome(conn)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("ready handshake: %w", err)
	}
	return peer, nil
}

func welcome(conn net.Conn) (*Peer, error) {
	ready := &guestv1.Ready{}
	in := bufio.NewReader(conn)
	if err := (protodelim.UnmarshalOptions{MaxSize: maxHandshake}).UnmarshalFrom(in, ready); err != nil {
		return nil, fmt.Errorf("read ready: %w", err)
	}
	version, refusal := negotiate(ready.GetAgent())
	answer := &guestv1.Welcome{Protocol: version}
	if refusal != nil {
		answer.Refusal = refusal.Error()
	}
	if _, err := protodelim.MarshalTo(conn, answer); err != nil {
		return nil, errors.Join(refusal, fmt.Errorf("write welcome: %w", err))
	}
	finish(conn, in)
	if refusal != nil {
		return nil, refusal
	}
	return &Peer{Ready: ready, Protocol: version}, nil
}

// finish ends the stream in the order that loses nothing on virtio-vsock: what
// is queued there may be dropped by a plain close.
func finish(conn net.Conn, in io.Reader) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(in, maxDrain))
		}
	}
}

// negotiate returns the highest version that both sides speak.
func negotiate(agent *guestv1.AgentInfo) (uint32, error) {
	low := max(agent.GetProtocolMin(), proto.GuestProtocolMin)
	high := min(agent.GetProtocolMax(), proto.GuestProtocolMax)
	if low > high || high == 0 {
		return 0, fmt.Errorf("%w: guestd %.64q speaks %d to %d, waggle %d to %d; "+
			"bake the image again with this waggle's guestd (`waggle image bake`)",
			ErrProtocol, agent.GetVersion(), agent.GetProtocolMin(), agent.GetProtocolMax(),
			proto.GuestProtocolMin, proto.GuestProtocolMax)
	}
	return high, nil
}
