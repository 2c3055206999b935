// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	dnsPort = 53
	// maxLookups in progress; further queries get SERVFAIL at once.
	maxLookups = 64
	// maxDNSConns is how many TCP connections are served at a time.
	maxDNSConns = 16
	// lookupTimeout is above what a guest's resolver waits before it asks
	// again (5 s), so that a slow answer is still of use to the second try.
	lookupTimeout = 10 * time.Second
	// dnsPayload is the largest answer over UDP (the DNS flag day's 1232).
	dnsPayload = 1232
	// dnsTTL in seconds: the host's resolver does not tell the real one.
	dnsTTL = 10
	// txtString is the most that one string of a TXT record holds
	// (RFC 1035 §3.3.14).
	txtString = 255
)

// resolver is the part of net.Resolver that answers the guest. It is the host's
// own: its hosts file, its name servers, its configuration as it changes.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupCNAME(ctx context.Context, host string) (string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNS(ctx context.Context, name string) ([]*net.NS, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// hostResolver is Go's own on Linux, cgo or not: glibc does not find fully
// qualified names, which the guest's all are, in the hosts file. macOS has
// resolvers that only the system knows.
var hostResolver = &net.Resolver{PreferGo: runtime.GOOS == "linux"}

// dnsServer answers on the gateway, over UDP and TCP.
type dnsServer struct {
	ctx      context.Context // the network's
	resolver resolver
	lookups  chan struct{}
	servers  []*dns.Server
	serving  sync.WaitGroup
}

func startDNS(ctx context.Context, s *stack.Stack, r resolver) (*dnsServer, error) {
	addr := tcpip.FullAddress{NIC: nicID, Addr: stackAddr(gatewayIP), Port: dnsPort}
	packets, err := gonet.DialUDP(s, &addr, nil, ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	listener, err := gonet.ListenTCP(s, addr, ipv4.ProtocolNumber)
	if err != nil {
		_ = packets.Close()
		return nil, err
	}
	d := &dnsServer{ctx: ctx, resolver: r, lookups: make(chan struct{}, maxLookups)}
	d.serve(&dns.Server{PacketConn: packets, UDPSize: dnsPayload, Handler: d.handler(dns.MinMsgSize)})
	d.serve(&dns.Server{Listener: netutil.LimitListener(listener, maxDNSConns), Handler: d.handler(dns.MaxMsgSize)})
	return d, nil
}

// serve returns when the server has started, without which it could not be shut
// down. It closes its socket when it ends.
func (d *dnsServer) serve(srv *dns.Server) {
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	d.servers = append(d.servers, srv)
	d.serving.Go(func() { _ = srv.ActivateAndServe() }) // ends by Shutdown alone
	<-started
}

// close waits for the servers and the queries that they still answer.
func (d *dnsServer) close() {
	if d == nil {
		return
	}
	for _, srv := range d.servers {
		_ = srv.Shutdown()
	}
	d.serving.Wait()
}

// handler answers queries in at most limit bytes, or what the query allows over
// UDP. Requests have exactly one question: the server rejects others.
func (d *dnsServer) handler(limit int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetReply(query)
		reply.RecursionAvailable = true
		size := limit
		if opt := query.IsEdns0(); opt != nil {
			reply.SetEdns0(dnsPayload, false)
			size = max(size, min(int(opt.UDPSize()), dnsPayload))
		}
		reply.Answer, reply.Rcode = d.answer(query.Question[0])
		reply.Truncate(size)
		_ = w.WriteMsg(reply) // a guest that does not get it asks again
	}
}

func (d *dnsServer) answer(q dns.Question) ([]dns.RR, int) {
	select {
	case d.lookups <- struct{}{}:
		defer func() { <-d.lookups }()
	default:
		return nil, dns.RcodeServerFailure
	}
	ctx, cancel := context.WithTimeout(d.ctx, lookupTimeout)
	defer cancel()
	records, err := d.lookup(ctx, q)
	var failure *net.DNSError
	switch {
	case err == nil:
		return records, dns.RcodeSuccess
	case errors.As(err, &failure) && failure.IsNotFound:
		return nil, dns.RcodeNameError
	default:
		// Not "no such name", which the guest would believe for good.
		return nil, dns.RcodeServerFailure
	}
}

// lookup asks the host. A type that it cannot ask for has no records, AAAA
// among them: the guest has no IPv6.
func (d *dnsServer) lookup(ctx context.Context, q dns.Question) ([]dns.RR, error) {
	hdr := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: dnsTTL}
	switch q.Qtype {
	case dns.TypeA:
		addrs, err := d.resolver.LookupNetIP(ctx, "ip4", hostName(q.Name))
		return records(addrs, err, func(a netip.Addr) dns.RR {
			return &dns.A{Hdr: hdr, A: a.Unmap().AsSlice()}
		})
	case dns.TypeCNAME:
		name, err := d.resolver.LookupCNAME(ctx, q.Name)
		return records([]string{name}, err, func(name string) dns.RR {
			return &dns.CNAME{Hdr: hdr, Target: name}
		})
	case dns.TypeMX:
		list, err := d.resolver.LookupMX(ctx, q.Name)
		return records(list, err, func(mx *net.MX) dns.RR {
			return &dns.MX{Hdr: hdr, Mx: mx.Host, Preference: mx.Pref}
		})
	case dns.TypeNS:
		list, err := d.resolver.LookupNS(ctx, q.Name)
		return records(list, err, func(ns *net.NS) dns.RR {
			return &dns.NS{Hdr: hdr, Ns: ns.Host}
		})
	case dns.TypeSRV:
		_, list, err := d.resolver.LookupSRV(ctx, "", "", q.Name)
		return records(list, err, func(s *net.SRV) dns.RR {
			return &dns.SRV{Hdr: hdr, Target: s.Target, Port: s.Port, Priority: s.Priority, Weight: s.Weight}
		})
	case dns.TypeTXT:
		list, err := d.resolver.LookupTXT(ctx, q.Name)
		return records(list, err, func(text string) dns.RR {
			return &dns.TXT{Hdr: hdr, Txt: splitText(text)}
		})
	default:
		return nil, nil
	}
}

// hostName is a name of the guest's as the host would type it. A name with dots
// keeps the one at its end, which spares it the host's search list; a single
// word loses it, because hosts files have such words without.
func hostName(name string) string {
	word := strings.TrimSuffix(name, ".")
	if strings.Contains(word, ".") {
		return name
	}
	return word
}

func records[T any](list []T, err error, record func(T) dns.RR) ([]dns.RR, error) {
	if err != nil {
		return nil, err
	}
	rrs := make([]dns.RR, len(list))
	for i, v := range list {
		rrs[i] = record(v)
	}
	return rrs, nil
}

func splitText(text string) []string {
	var parts []string
	for part := range slices.Chunk([]byte(text), txtString) {
		parts = append(parts, string(part))
	}
	return parts
}
