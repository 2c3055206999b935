// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/proto"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func TestWelcome(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		min, max uint32
		want     uint32
	}{
		{"the same", proto.GuestProtocolMin, proto.GuestProtocolMax, proto.GuestProtocolMax},
		{"a newer guest that speaks ours too", proto.GuestProtocolMin, proto.GuestProtocolMax + 5, proto.GuestProtocolMax},
		{"too new", proto.GuestProtocolMax + 1, proto.GuestProtocolMax + 2, 0},
		{"no version at all", 0, 0, 0},
		{"upside down", proto.GuestProtocolMax + 2, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			host, agent := net.Pipe()
			answer := make(chan *guestv1.Welcome, 1)
			go func() {
				defer func() { _ = agent.Close() }()
				_, _ = protodelim.MarshalTo(agent, &guestv1.Ready{Agent: &guestv1.AgentInfo{
					Version: "v9", ProtocolMin: tc.min, ProtocolMax: tc.max,
				}})
				w := &guestv1.Welcome{}
				_ = protodelim.UnmarshalFrom(bufio.NewReader(agent), w)
				answer <- w
			}()
			peer, err := guest.Welcome(t.Context(), host)
			w := <-answer
			require.Equal(t, tc.want, w.GetProtocol())
			if tc.want == 0 {
				require.ErrorIs(t, err, guest.ErrProtocol)
				require.ErrorContains(t, err, w.GetRefusal())
				require.NotEmpty(t, w.GetRefusal())
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, peer.Protocol)
			require.Equal(t, "v9", peer.Ready.GetAgent().GetVersion())
		})
	}
}

// TestWelcomeHostile: a length that is not true allocates nothing and ends.
func TestWelcomeHostile(t *testing.T) {
	t.Parallel()
	for name, head := range map[string][]byte{
		"huge":    binary.AppendUvarint(nil, 1<<40),
		"over":    binary.AppendUvarint(nil, 64<<10+1),
		"garbage": {3, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, agent := net.Pipe()
			go func() { _, _ = agent.Write(head) }()
			_, err := guest.Welcome(t.Context(), host)
			require.Error(t, err)
		})
	}
}

func TestWelcomeSilent(t *testing.T) {
	t.Parallel()
	host, agent := net.Pipe()
	defer func() { _ = agent.Close() }()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("boot deadline")
	cancel(why)
	_, err := guest.Welcome(ctx, host)
	require.ErrorIs(t, err, why)
}
