// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNewRefusesModes(t *testing.T) {
	t.Parallel()
	for mode, want := range map[Mode]string{
		Allow: "not available yet", None: "no network to start", "": "unknown network mode", "opne": "opne",
	} {
		_, err := New(Config{Mode: mode})
		require.ErrorContains(t, err, want)
	}
	_, err := New(Config{Mode: Open, AllowPrivate: prefixes("127.0.0.0/8")})
	require.ErrorContains(t, err, "never reachable")
}

func TestGuestConfigIsConsistent(t *testing.T) {
	t.Parallel()
	cfg := newTestNetwork(t, Config{}, nil).Guest()
	require.True(t, cfg.Addr.Contains(cfg.Gateway))
	require.NotEqual(t, cfg.Addr.Addr(), cfg.Gateway)
	require.Len(t, cfg.MAC, 6)
	require.Equal(t, byte(2), cfg.MAC[0]&3, "locally administered, unicast")
}

// listenTCP serves every connection with handle until the test ends.
func listenTCP(t testing.TB, handle func(*net.TCPConn)) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { cancel(); _ = ln.Close(); work.Wait() })
	return ln.Addr()
}

func TestTCPCarriesBothWaysAndHalfCloses(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, nil)
	// Answers with the hash of all it read, and only after the end of it.
	n.routes.add("203.0.113.7:443", listenTCP(t, func(c *net.TCPConn) {
		h := sha256.New()
		size, _ := io.Copy(h, c)
		_, _ = c.Write(binary.BigEndian.AppendUint64(h.Sum(nil), uint64(size)))
	}))
	g := attachGuest(t, n.Network)
	conn, err := g.dialTCP(testContext(t), "203.0.113.7:443")
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))

	data := make([]byte, 8<<20+17)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	_, err = conn.Write(data)
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	want := sha256.Sum256(data)
	require.Equal(t, binary.BigEndian.AppendUint64(want[:], uint64(len(data))), got)
}

func TestTCPDownload(t *testing.T) {
	t.Parallel()
	data := make([]byte, 8<<20+17)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data)
	n := newTestNetwork(t, Config{}, nil)
	n.routes.add("203.0.113.7:80", listenTCP(t, func(c *net.TCPConn) { _, _ = c.Write(data) }))
	g := attachGuest(t, n.Network)
	conn, err := g.dialTCP(testContext(t), "203.0.113.7:80")
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}

func TestTCPResetIsNotAnEnd(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, nil)
	n.routes.add("203.0.113.7:80", listenTCP(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("half an ans"))
		_, _ = io.ReadFull(c, make([]byte, 1)) // the guest has read it
		_ = c.SetLinger(0)
	}))
	g := attachGuest(t, n.Network)
	conn, err := g.dialTCP(testContext(t), "203.0.113.7:80")
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))
	_, err = io.ReadFull(conn, make([]byte, 11))
	require.NoError(t, err)
	_, err = conn.Write([]byte("!"))
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.ErrorContains(t, err, "reset")
}

// TestRefusedTCPIsResetAtOnce covers what the guest tries first: servers that
// run on this host and would answer.
func TestRefusedTCPIsResetAtOnce(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{AllowPrivate: prefixes("192.168.0.0/16")}, nil)
	g := attachGuest(t, n.Network)

	ln, err := net.Listen("tcp4", "0.0.0.0:0") // on every address of the host
	require.NoError(t, err)
	defer ln.Close()
	port := uint16(ln.Addr().(*net.TCPAddr).Port)

	targets := []string{
		"192.168.127.1",
		"10.0.0.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "168.63.129.16",
	}
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addrs {
		// Loopback does not leave a well-behaved guest: see TestLoopbackIsNotDialled.
		if ip := a.(*net.IPNet).IP.To4(); ip != nil && !ip.IsLoopback() {
			targets = append(targets, ip.String())
		}
	}
	for _, target := range targets {
		addr := net.JoinHostPort(target, strconv.Itoa(int(port)))
		_, err := g.dialTCP(testContext(t), addr)
		require.ErrorContains(t, err, "refused", addr)
	}
	_, err = g.dialTCP(testContext(t), "192.168.127.1:80")
	require.ErrorContains(t, err, "refused", "the gateway has no web server")
	require.Zero(t, n.routes.count(), "nothing was dialled")
}

func TestClosedRemotePortIsRefused(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	n := newTestNetwork(t, Config{}, nil)
	n.routes.add("203.0.113.7:80", ln.Addr())
	require.NoError(t, ln.Close())
	_, err = attachGuest(t, n.Network).dialTCP(testContext(t), "203.0.113.7:80")
	require.ErrorContains(t, err, "refused")
	require.Equal(t, 1, n.routes.count())
}

func TestAllowPrivateOpens(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{AllowPrivate: prefixes("10.7.0.0/16")}, nil)
	server := listenTCP(t, func(c *net.TCPConn) { _, _ = c.Write([]byte("mirror")) })
	n.routes.add("10.7.0.1:80", server)
	n.routes.add("10.8.0.1:80", server)
	g := attachGuest(t, n.Network)
	conn, err := g.dialTCP(testContext(t), "10.7.0.1:80")
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "mirror", string(got))
	_, err = g.dialTCP(testContext(t), "10.8.0.1:80")
	require.ErrorContains(t, err, "refused")
}

func TestUDP(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	n := newTestNetwork(t, Config{}, nil)
	n.routes.add("203.0.113.7:123", server.LocalAddr())
	conn := attachGuest(t, n.Network).dialUDP(t, "203.0.113.7:123")
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))
	require.NoError(t, server.SetDeadline(time.Now().Add(testTimeout)))

	buf := make([]byte, maxDatagram)
	for _, size := range []int{1, 1400, 9000} { // the last in fragments
		want := bytes.Repeat([]byte{byte(size)}, size)
		_, err := conn.Write(want)
		require.NoError(t, err)
		got, from, err := server.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, want, buf[:got])
		_, err = server.WriteTo(want, from)
		require.NoError(t, err)
		got, err = conn.Read(buf)
		require.NoError(t, err)
		require.Equal(t, want, buf[:got])
	}
	require.Equal(t, 1, n.routes.count(), "one flow")
}

func TestRefusedUDPIsUnreachable(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, nil)
	g := attachGuest(t, n.Network)
	for _, addr := range []string{"10.0.0.1:53", "192.168.127.1:123", "169.254.169.254:80"} {
		conn := g.dialUDP(t, addr)
		_, err := conn.Write([]byte("x"))
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			_, err := conn.Write([]byte("x")) // reports the ICMP answer
			return err != nil
		}, testTimeout, time.Millisecond, addr)
	}
	require.Zero(t, n.routes.count(), "nothing was dialled")
}

func TestFlowsAreCapped(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, nil)
	for range maxTCPFlows - 1 {
		require.NoError(t, n.begin(n.tcpSlots))
		t.Cleanup(func() { n.end(n.tcpSlots) })
	}
	n.routes.add("203.0.113.7:80", listenTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }))
	g := attachGuest(t, n.Network)
	last, err := g.dialTCP(testContext(t), "203.0.113.7:80")
	require.NoError(t, err)
	_, err = g.dialTCP(testContext(t), "203.0.113.7:80")
	require.ErrorContains(t, err, "refused")

	require.NoError(t, last.Close())
	require.Eventually(t, func() bool { // the end of a flow gives its slot back
		again, err := g.dialTCP(testContext(t), "203.0.113.7:80")
		if err == nil {
			_ = again.Close()
		}
		return err == nil
	}, testTimeout, time.Millisecond)
}

func TestAttachOnce(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, nil)
	conn, err := n.Attach()
	require.NoError(t, err)
	defer conn.Close()
	_, err = n.Attach()
	require.ErrorContains(t, err, "already attached")
	require.NoError(t, n.Close())
	_, err = n.Attach()
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, n.Close(), "idempotent")
}

func TestRefusalsAreLoggedButNotWithoutBound(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n, err := New(Config{Mode: Open, Logger: log})
	require.NoError(t, err)
	for range 10000 {
		n.refused("tcp", netip.MustParseAddrPort("10.0.0.1:80"), errPrivate)
	}
	require.NoError(t, n.Close())
	require.Contains(t, out.String(), "dst=10.0.0.1:80")
	require.Less(t, bytes.Count(out.Bytes(), []byte("\n")), 200)
}

// BenchmarkTCPDownload measures one flow from a server of the host to the guest;
// both stacks run here.
func BenchmarkTCPDownload(b *testing.B) {
	const size = 16 << 20
	data := make([]byte, size)
	n := newTestNetwork(b, Config{}, nil)
	n.routes.add("203.0.113.7:80", listenTCP(b, func(c *net.TCPConn) { _, _ = c.Write(data) }))
	g := attachGuest(b, n.Network)
	b.SetBytes(size)
	for b.Loop() {
		conn, err := g.dialTCP(testContext(b), "203.0.113.7:80")
		require.NoError(b, err)
		got, err := io.Copy(io.Discard, conn)
		require.NoError(b, err)
		require.EqualValues(b, size, got)
		require.NoError(b, conn.Close())
	}
}

// BenchmarkTCPConnect measures connection set-up: policy, dial and handshake.
func BenchmarkTCPConnect(b *testing.B) {
	n := newTestNetwork(b, Config{}, nil)
	n.routes.add("203.0.113.7:80", listenTCP(b, func(*net.TCPConn) {}))
	g := attachGuest(b, n.Network)
	for b.Loop() {
		conn, err := g.dialTCP(testContext(b), "203.0.113.7:80")
		require.NoError(b, err)
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(b, err, io.EOF)
		require.NoError(b, conn.Close())
	}
}
