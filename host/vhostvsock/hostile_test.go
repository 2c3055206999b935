// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// request is a header for a port that nobody serves.
func request(port uint32) header {
	return header{srcCID: testCID, dstCID: hostCID, srcPort: port, dstPort: 9999, typ: typeStream, op: opRequest}
}

// raw offers descriptor 0 of the tx ring as it is.
func (g *guest) raw(gpa uint64, length uint32, flags, next uint16) {
	g.desc(&g.tx, 0, gpa, length, flags, next)
	g.offer(&g.tx, 0)
}

// Each of these ends the device with ErrMalformedRing, and nothing else.
func TestHostileRings(t *testing.T) {
	t.Parallel()
	const buf = ramGPA + txBufAt
	for name, tc := range map[string]struct {
		do   func(g *guest)
		want string
	}{
		"available index jumps": {func(g *guest) { g.setAvail(&g.tx, ringSize+1) }, "257 entries ahead"},
		"available index back":  {func(g *guest) { g.setAvail(&g.tx, 0xffff) }, "65535 entries ahead"},
		"rx available jumps": {func(g *guest) {
			g.setAvail(&g.rx, 5000)
			g.put(0, request(1), nil)
		}, "5000 entries ahead"},
		"head out of table": {func(g *guest) { g.offer(&g.tx, ringSize) }, "descriptor 256 in a table of 256"},
		"next out of table": {func(g *guest) { g.raw(buf, 10, descNext, 60000) }, "descriptor 60000"},
		"loop of one":       {func(g *guest) { g.raw(buf, 10, descNext, 0) }, "loops"},
		"loop of two": {func(g *guest) {
			g.desc(&g.tx, 1, buf, 10, descNext, 0)
			g.raw(buf, 10, descNext, 1)
		}, "loops"},
		"loop of empty descriptors": {func(g *guest) { g.raw(buf, 0, descNext, 0) }, "loops"},
		"indirect":                  {func(g *guest) { g.raw(buf, 160, descIndirect, 0) }, "indirect"},
		"writable in tx":            {func(g *guest) { g.raw(buf, 100, descWrite, 0) }, "wrong direction"},
		"below memory":              {func(g *guest) { g.raw(ramGPA-1, 100, 0, 0) }, "outside of guest memory"},
		"above memory":              {func(g *guest) { g.raw(ramGPA+ramSize, 1, 0, 0) }, "outside of guest memory"},
		"crosses the end":           {func(g *guest) { g.raw(ramGPA+ramSize-50, 51, 0, 0) }, "outside of guest memory"},
		"address overflows":         {func(g *guest) { g.raw(^uint64(0)-10, 100, 0, 0) }, "outside of guest memory"},
		"length overflows":          {func(g *guest) { g.raw(buf, 0xffff_ffff, 0, 0) }, "outside of guest memory"},
		"short header":              {func(g *guest) { g.raw(buf, headerSize-1, 0, 0) }, "packet of 43 bytes"},
		"no descriptor content":     {func(g *guest) { g.raw(buf, 0, 0, 0) }, "packet of 0 bytes"},
		"claims more than it has": {func(g *guest) {
			h := request(1)
			h.length = 1
			g.put(0, h, nil)
		}, "packet claims 1 bytes"},
		"rx buffer is readable": {func(g *guest) {
			g.desc(&g.rx, 0, ramGPA+rxBufAt, 4096, 0, 0)
			g.put(0, request(1), nil)
		}, "rx ring: guest broke a virtqueue: descriptor 0 has the wrong direction"},
		"rx buffer too small": {func(g *guest) {
			g.desc(&g.rx, 0, ramGPA+rxBufAt, 43, descWrite, 0)
			g.put(0, request(1), nil)
		}, "rx buffer of 43 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, Config{})
			g.start()
			tc.do(g)
			g.notify(&g.tx)
			err := g.ended()
			require.ErrorIs(t, err, ErrMalformedRing)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// next waits for the device's next packet.
func (g *guest) next() (header, []byte) {
	g.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if head, h, data, ok := g.receive(); ok {
			data = append([]byte(nil), data...)
			g.giveBuffer(head)
			return h, data
		}
		_ = g.rx.call.SetReadDeadline(deadline)
		_, _ = g.rx.call.Read(make([]byte, 8))
	}
	g.t.Fatal("no packet from the device")
	return header{}, nil
}

// connected is a guest with a stream that the host has dialled: the host's end
// and the header of the guest's packets on it.
func connected(t *testing.T) (*guest, *net.UnixConn, header) {
	t.Helper()
	l, dial := listen(t)
	g := newGuest(t, Config{Listeners: map[uint32]*net.UnixListener{echoPort: l}})
	g.start()
	host := dial()
	h, _ := g.next()
	require.EqualValues(t, opRequest, h.op)
	h.srcCID, h.dstCID, h.srcPort, h.dstPort = h.dstCID, h.srcCID, h.dstPort, h.srcPort
	h.op, h.bufAlloc, h.fwdCnt = opResponse, 1<<20, 0
	g.put(0, h, nil)
	return g, host, h
}

// A packet that breaks the vsock protocol costs the guest that stream only.
func TestOffendingPackets(t *testing.T) {
	t.Parallel()
	with := func(op uint16, change func(*header)) func(header) (header, []byte) {
		return func(h header) (header, []byte) {
			h.op = op
			change(&h)
			return h, nil
		}
	}
	for name, offend := range map[string]func(header) (header, []byte){
		"second request":          with(opRequest, func(*header) {}),
		"second response":         with(opResponse, func(*header) {}),
		"unknown operation":       with(77, func(*header) {}),
		"unknown stream":          with(opData, func(h *header) { h.srcPort++ }),
		"seqpacket":               with(opRequest, func(h *header) { h.typ = 2 }),
		"foreign source CID":      with(opRequest, func(h *header) { h.srcCID++; h.dstPort = 1025 }),
		"foreign destination CID": with(opRequest, func(h *header) { h.dstCID = 1 }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _, h := connected(t)
			bad, data := offend(h)
			g.put(1, bad, data)
			got, _ := g.next()
			require.EqualValues(t, opReset, got.op)
			require.Equal(t, bad.srcPort, got.dstPort)
			require.Equal(t, bad.srcCID, got.dstCID)
			require.Equal(t, bad.typ, got.typ)
			requireAlive(t, g)
		})
	}
}

// requireAlive checks that the device still answers.
func requireAlive(t *testing.T, g *guest) {
	t.Helper()
	g.put(20, request(321), nil)
	for range ringSize {
		// Resets of what came before may be on the way.
		h, _ := g.next()
		require.EqualValues(t, opReset, h.op)
		if h.dstPort == 321 {
			return
		}
	}
	t.Fatal("no answer")
}

func TestCreditIsEnforced(t *testing.T) {
	t.Parallel()
	g, host, h := connected(t)
	h.op, h.length = opData, 64<<10
	// The host reads nothing: its socket takes some, then the window is all
	// there is. Without enforcement the device would swallow all of this.
	for i := range 30 {
		g.put(1+i, h, noise(1, 64<<10))
	}
	got, _ := g.next()
	for got.op == opCreditUpdate {
		got, _ = g.next()
	}
	require.EqualValues(t, opReset, got.op)
	n, err := io.Copy(io.Discard, host)
	require.NoError(t, err)
	require.Greater(t, n, int64(recvWindow))
	require.Less(t, n, int64(30*64<<10))
	requireAlive(t, g)
}

func TestDataAfterShutdownResets(t *testing.T) {
	t.Parallel()
	g, host, h := connected(t)
	h.op, h.flags = opShutdown, shutSend
	g.put(1, h, nil)
	_, err := host.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	h.op, h.flags, h.length = opData, 0, 3
	g.put(2, h, []byte("abc"))
	got, _ := g.next()
	require.EqualValues(t, opReset, got.op)
}

// What lies in the chain after hdr.len is not data.
func TestDataIsTrimmed(t *testing.T) {
	t.Parallel()
	g, host, h := connected(t)
	h.op, h.length = opData, 5
	g.put(1, h, []byte("helloSECRET"))
	h.op, h.length, h.flags = opShutdown, 0, shutBoth
	g.put(2, h, nil)
	got, err := io.ReadAll(host)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
}

// A guest that asks without ever giving rx buffers is not read any more, and
// goes on when it gives them.
func TestReplyFlood(t *testing.T) {
	t.Parallel()
	g := newGuest(t, Config{})
	g.start()
	consumed := 0
	send := func() {
		for i := range 128 {
			h := request(uint32(i))
			raw := h.encode()
			at := uint64(txBufAt + i*64)
			copy(g.ram[at:], raw[:])
			g.desc(&g.tx, uint16(i), ramGPA+at, headerSize, 0, 0)
			g.offer(&g.tx, uint16(i))
		}
		g.notify(&g.tx)
	}
	drain := func() bool {
		for {
			if _, _, ok := g.used(&g.tx); !ok {
				return consumed >= 128
			}
			consumed++
		}
	}
	// 128 answers fill the rx buffers, 128 the queue of replies.
	for range 2 {
		consumed = 0
		send()
		require.Eventually(t, drain, patience, time.Millisecond)
	}
	consumed = 0
	send()
	// An ask of the front-end is answered after the loop has had its turn.
	g.ask(reqGetFeatures, 0, nil)
	g.ask(reqGetFeatures, 0, nil)
	drain()
	require.Zero(t, consumed)
	for i := range 384 {
		h, _ := g.next()
		g.notify(&g.rx)
		require.EqualValues(t, opReset, h.op)
		require.EqualValues(t, i%128, h.dstPort)
	}
	require.Eventually(t, drain, patience, time.Millisecond)
}

// The guest's own streams are capped by the callbacks that may run.
func TestStreamFlood(t *testing.T) {
	t.Parallel()
	g := newGuest(t, Config{Accept: map[uint32]func(net.Conn){
		1025: func(c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		},
	}})
	g.start()
	answers := map[uint16]int{}
	for i := range uint32(maxHandlers + 50) {
		h := request(i)
		h.dstPort = 1025
		g.put(0, h, nil)
		got, _ := g.next()
		answers[got.op]++
	}
	require.Equal(t, map[uint16]int{opResponse: maxHandlers, opReset: 50}, answers)
}

// A guest that never answers requests fills its own table and no more.
func TestHostStreamsAreCapped(t *testing.T) {
	t.Parallel()
	l, dial := listen(t)
	g := newGuest(t, Config{Listeners: map[uint32]*net.UnixListener{echoPort: l}})
	g.start()
	for range maxStreams {
		dial()
		h, _ := g.next()
		g.notify(&g.rx)
		require.EqualValues(t, opRequest, h.op)
	}
	_, err := dial().Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

// A guest that claims to have read what was never sent gains no credit.
func TestFalseAcknowledgement(t *testing.T) {
	t.Parallel()
	g, host, h := connected(t)
	h.op, h.bufAlloc, h.fwdCnt = opCreditUpdate, 100, 1<<31
	g.put(1, h, nil)
	requireAlive(t, g)
	_, err := host.Write(noise(1, 1000))
	require.NoError(t, err)
	got, data := g.next()
	require.EqualValues(t, opData, got.op)
	require.Len(t, data, 100)
	got, _ = g.next()
	require.EqualValues(t, opCreditRequest, got.op)
	requireAlive(t, g)
}
