// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

const gatewayDNS = "192.168.127.1:53"

// noResolver knows no name.
type noResolver struct{}

var errNoName = &net.DNSError{Err: "no such host", IsNotFound: true}

func (noResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errNoName
}
func (noResolver) LookupCNAME(context.Context, string) (string, error) { return "", errNoName }
func (noResolver) LookupMX(context.Context, string) ([]*net.MX, error) { return nil, errNoName }
func (noResolver) LookupNS(context.Context, string) ([]*net.NS, error) { return nil, errNoName }
func (noResolver) LookupTXT(context.Context, string) ([]string, error) { return nil, errNoName }
func (noResolver) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errNoName
}

// testResolver knows the names of example.com.
type testResolver struct{}

func (testResolver) LookupNetIP(ctx context.Context, network, name string) ([]netip.Addr, error) {
	switch {
	case network != "ip4":
		return nil, errors.New("the guest has no IPv6")
	case name == "word":
		return []netip.Addr{netip.MustParseAddr("203.0.113.9")}, nil
	case name == "www.example.com.":
		return []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("::ffff:203.0.113.8")}, nil
	case name == "many.example.com.":
		addrs := make([]netip.Addr, 200)
		for i := range addrs {
			addrs[i] = netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
		}
		return addrs, nil
	case name == "broken.example.com.":
		return nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true}
	case name == "slow.example.com.":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, errNoName
}

func (testResolver) LookupTXT(context.Context, string) ([]string, error) {
	return []string{"short", strings.Repeat("long", 100)}, nil
}

func (testResolver) LookupMX(context.Context, string) ([]*net.MX, error) {
	return []*net.MX{{Host: "mail.example.com.", Pref: 10}}, nil
}

func (testResolver) LookupNS(context.Context, string) ([]*net.NS, error) {
	return []*net.NS{{Host: "ns.example.com."}}, nil
}

func (testResolver) LookupCNAME(context.Context, string) (string, error) {
	return "www.example.com.", nil
}

func (testResolver) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if service+proto != "" {
		return "", nil, errNoName
	}
	return name, []*net.SRV{{Target: "www.example.com.", Port: 80, Priority: 1, Weight: 2}}, nil
}

// ask sends one query over conn.
func ask(t *testing.T, conn net.Conn, name string, kind uint16) *dns.Msg {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testTimeout)))
	c := dns.Conn{Conn: conn, UDPSize: dnsPayload}
	query := new(dns.Msg).SetQuestion(name, kind)
	require.NoError(t, c.WriteMsg(query))
	reply, err := c.ReadMsg()
	require.NoError(t, err)
	require.Equal(t, query.Id, reply.Id)
	require.True(t, reply.Response)
	return reply
}

func TestDNSRecords(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, testResolver{})
	conn := attachGuest(t, n.Network).dialUDP(t, gatewayDNS)
	tests := []struct {
		name  string
		kind  uint16
		rcode int
		want  []string // the data of the answers
	}{
		{"www.example.com.", dns.TypeA, dns.RcodeSuccess, []string{"203.0.113.7", "203.0.113.8"}},
		{"word.", dns.TypeA, dns.RcodeSuccess, []string{"203.0.113.9"}},
		{"www.example.com.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"www.example.com.", dns.TypeHTTPS, dns.RcodeSuccess, nil},
		{"other.example.com.", dns.TypeA, dns.RcodeNameError, nil},
		{"broken.example.com.", dns.TypeA, dns.RcodeServerFailure, nil},
		{"example.com.", dns.TypeMX, dns.RcodeSuccess, []string{"10 mail.example.com."}},
		{"example.com.", dns.TypeNS, dns.RcodeSuccess, []string{"ns.example.com."}},
		{"alias.example.com.", dns.TypeCNAME, dns.RcodeSuccess, []string{"www.example.com."}},
		{"_http._tcp.example.com.", dns.TypeSRV, dns.RcodeSuccess, []string{"1 2 80 www.example.com."}},
		{"example.com.", dns.TypeTXT, dns.RcodeSuccess, []string{
			`"short"`, `"` + strings.Repeat("long", 100)[:255] + `" "` + strings.Repeat("long", 100)[255:] + `"`,
		}},
	}
	for _, tt := range tests {
		reply := ask(t, conn, tt.name, tt.kind)
		require.Equal(t, tt.rcode, reply.Rcode, "%s %s", tt.name, dns.TypeToString[tt.kind])
		var got []string
		for _, rr := range reply.Answer {
			require.Equal(t, tt.kind, rr.Header().Rrtype)
			got = append(got, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
		require.Equal(t, tt.want, got, "%s %s", tt.name, dns.TypeToString[tt.kind])
	}
}

func TestDNSTruncatesOverUDPAndNotOverTCP(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, testResolver{})
	g := attachGuest(t, n.Network)
	reply := ask(t, g.dialUDP(t, gatewayDNS), "many.example.com.", dns.TypeA)
	require.True(t, reply.Truncated)
	reply.Compress = true // as it was sent
	require.LessOrEqual(t, reply.Len(), dns.MinMsgSize)

	conn, err := g.dialTCP(testContext(t), gatewayDNS)
	require.NoError(t, err)
	defer conn.Close()
	reply = ask(t, conn, "many.example.com.", dns.TypeA)
	require.False(t, reply.Truncated)
	require.Len(t, reply.Answer, 200)
}

// TestDNSAsksTheHost uses the resolver of this host, and a name that needs
// nothing outside it. That the answer is loopback shows, besides, that names are
// not what protects the host.
func TestDNSAsksTheHost(t *testing.T) {
	t.Parallel()
	want, err := hostResolver.LookupNetIP(testContext(t), "ip4", "localhost")
	if err != nil {
		t.Skip("this host does not resolve localhost: ", err)
	}
	n := newTestNetwork(t, Config{}, nil)
	reply := ask(t, attachGuest(t, n.Network).dialUDP(t, gatewayDNS), "localhost.", dns.TypeA)
	require.Equal(t, dns.RcodeSuccess, reply.Rcode)
	require.NotEmpty(t, reply.Answer)
	require.Equal(t, want[0].Unmap().String(), reply.Answer[0].(*dns.A).A.String())
}

func TestDNSLookupsAreCapped(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, testResolver{})
	for range maxLookups {
		n.dns.lookups <- struct{}{}
	}
	conn := attachGuest(t, n.Network).dialUDP(t, gatewayDNS)
	require.Equal(t, dns.RcodeServerFailure, ask(t, conn, "www.example.com.", dns.TypeA).Rcode)
	<-n.dns.lookups
	require.Equal(t, dns.RcodeSuccess, ask(t, conn, "www.example.com.", dns.TypeA).Rcode)
}

func TestDNSLookupEndsWithTheNetwork(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, testResolver{})
	conn := attachGuest(t, n.Network).dialUDP(t, gatewayDNS)
	c := dns.Conn{Conn: conn}
	require.NoError(t, c.WriteMsg(new(dns.Msg).SetQuestion("slow.example.com.", dns.TypeA)))
	require.Eventually(t, func() bool { return len(n.dns.lookups) == 1 }, testTimeout, time.Millisecond)
	require.NoError(t, n.Close())
	require.Empty(t, n.dns.lookups)
}

func TestDNSRejectsRubbish(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, Config{}, testResolver{})
	g := attachGuest(t, n.Network)
	conn := g.dialUDP(t, gatewayDNS)
	two := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	packed, err := two.Pack()
	require.NoError(t, err)
	for _, rubbish := range [][]byte{{}, {1}, make([]byte, 12), []byte(strings.Repeat("x", 1232)), packed} {
		_, err := conn.Write(rubbish)
		require.NoError(t, err)
	}
	fresh := g.dialUDP(t, gatewayDNS)
	require.Len(t, ask(t, fresh, "www.example.com.", dns.TypeA).Answer, 2)

	stream, err := g.dialTCP(testContext(t), gatewayDNS)
	require.NoError(t, err)
	defer stream.Close()
	require.NoError(t, stream.SetDeadline(time.Now().Add(testTimeout)))
	_, err = stream.Write([]byte{0, 3, 1, 2, 3})
	require.NoError(t, err)
	require.NoError(t, stream.CloseWrite())
	_, err = io.ReadAll(stream)
	require.NoError(t, err)
}
