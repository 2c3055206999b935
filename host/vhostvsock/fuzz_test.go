// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var discard = slog.New(slog.DiscardHandler)

// Guest memory of the fuzz targets: two rings of 8, then buffers.
const (
	fuzzRAM  = 8 << 10
	fuzzSize = 8
	fuzzRx   = 0
	fuzzTx   = 512
	fuzzBuf  = 1024
)

// fuzzSession is a session without a front-end over plain memory, with one
// stream that is connected: its host end is returned.
func fuzzSession(t testing.TB) (s *session, ram []byte, host int) {
	t.Helper()
	s, err := newSession(Config{GuestCID: testCID, Logger: discard})
	require.NoError(t, err)
	t.Cleanup(s.close)
	ram = make([]byte, fuzzRAM)
	s.mem = &memory{regions: []region{{memRegion: memRegion{size: fuzzRAM}, mem: ram}}}
	for i, at := range []uint64{fuzzRx, fuzzTx} {
		s.rings[i].queue, err = newQueue(s.mem, fuzzSize, vringAddr{desc: at, avail: at + 128, used: at + 160}, 0)
		require.NoError(t, err)
		s.rings[i].running = true
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fds[1]) })
	key := streamKey{host: 1, guest: 1}
	st, err := s.open(key, fds[0], statConnected, 0)
	require.NoError(t, err)
	st.peerAlloc = 1 << 16
	_, err = unix.Write(fds[1], make([]byte, 3000))
	require.NoError(t, err)
	st.readable = true
	s.schedule(st)
	return s, ram, fds[1]
}

// validRings is memory with an rx buffer of two descriptors and one tx packet.
func validRings() []byte {
	g := &guest{ram: make([]byte, 2048)}
	rx, tx := driverRing{at: fuzzRx}, driverRing{at: fuzzTx}
	g.desc(&rx, 0, fuzzBuf, headerSize, descNext|descWrite, 1)
	g.desc(&rx, 1, fuzzBuf+headerSize, 500, descWrite, 0)
	g.desc(&tx, 0, fuzzBuf+600, headerSize, descNext, 1)
	g.desc(&tx, 1, fuzzBuf+700, 10, 0, 0)
	g.ram[fuzzRx+128+2], g.ram[fuzzTx+128+2] = 1, 1
	h := header{srcCID: testCID, dstCID: hostCID, srcPort: 1, dstPort: 1, length: 10, typ: typeStream, op: opData, bufAlloc: 1 << 16}
	raw := h.encode()
	copy(g.ram[fuzzBuf+600:], raw[:])
	return g.ram
}

// FuzzRing lays arbitrary bytes over the rings and turns the loop.
func FuzzRing(f *testing.F) {
	f.Add(validRings())
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ram, _ := fuzzSession(t)
		copy(ram, b)
		for range 4 {
			if _, err := s.turn(); err != nil {
				require.ErrorIs(t, err, ErrMalformedRing)
				return
			}
			require.LessOrEqual(t, len(s.replies), maxReplies)
		}
	})
}

// FuzzPacket hands over packets in pieces that the input chooses.
func FuzzPacket(f *testing.F) {
	ram := validRings()
	f.Add(ram[fuzzBuf+600:fuzzBuf+600+headerSize+10], uint8(44), uint8(3))
	f.Add([]byte{}, uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, first, rest uint8) {
		s, _, _ := fuzzSession(t)
		var segs [][]byte
		for n, left := int(first)+1, b; len(left) > 0; n = int(rest) + 1 {
			n = min(n, len(left))
			segs = append(segs, left[:n:n])
			left = left[n:]
		}
		before := string(b)
		if err := s.packet(segs, uint64(len(b))); err != nil {
			require.ErrorIs(t, err, ErrMalformedRing)
		}
		require.Equal(t, before, string(b), "the guest's memory was written")
		require.LessOrEqual(t, len(s.replies), 1)
		require.LessOrEqual(t, s.live, 1)
	})
}

// FuzzMessage feeds the front-end's socket.
func FuzzMessage(f *testing.F) {
	message := func(req uint32, payload []byte) []byte {
		return append(u32s(req, messageVersion|messageNeedReply, uint32(len(payload))), payload...)
	}
	f.Add(message(reqGetFeatures, nil))
	f.Add(append(message(reqSetProtocolFeatures, u64(protoFeatures)), message(reqSetVringNum, u32s(1, 8))...))
	f.Add(message(reqSetMemTable, memTable(memRegion{size: 4096})))
	f.Add(message(reqGetConfig, u32s(0, 8, 0)))
	f.Add(message(reqGetVringBase, u32s(1, 0)))
	f.Add(message(reqSetVringEnable, u32s(1, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, _, _ := fuzzSession(t)
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer closeAll(fds[:])
		s.front.fd = fds[0]
		_, err = unix.Write(fds[1], b[:min(len(b), 4096)])
		require.NoError(t, err)
		_ = unix.Shutdown(fds[1], unix.SHUT_WR)
		for err == nil {
			err = s.onFrontend(0)
		}
		// Every input ends: in a protocol error, or where the bytes end.
		require.NotErrorIs(t, err, unix.EAGAIN)
	})
}
