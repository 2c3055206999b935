// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// closedRanges are never dialled, whatever the operator opens: they name the
// host itself, everyone, no one, or a cloud's metadata service, which hands out
// the host's credentials (RFC 6890; 168.63.129.16 is Azure's).
var closedRanges = prefixes(
	"0.0.0.0/8",
	"127.0.0.0/8",
	"168.63.129.16/32",
	"169.254.0.0/16",
	"224.0.0.0/4",
	"240.0.0.0/4", // reserved, with the limited broadcast
)

// privateRanges are closed unless Config.AllowPrivate opens a part: RFC 1918,
// RFC 6598 (shared address space, with metadata services of some clouds) and
// RFC 6890's protocol assignments. Documentation ranges such as 203.0.113.0/24
// are missing on purpose: nothing in them is the host's, and a mirror may be.
var privateRanges = prefixes(
	"10.0.0.0/8",
	"100.64.0.0/10",
	"172.16.0.0/12",
	"192.0.0.0/24",
	"192.168.0.0/16",
)

var (
	errNotIPv4   = errors.New("the guest's network is IPv4 only")
	errClosed    = errors.New("address range is never reachable")
	errOwnSubnet = errors.New("address is in the VM's own network")
	errPrivate   = errors.New("private address")
	errHost      = errors.New("address belongs to the host")
)

// policy decides which addresses may be dialled. It may be used concurrently.
type policy struct {
	allowed   []netip.Prefix
	hostAddrs func() ([]net.Addr, error)
}

func newPolicy(allow []netip.Prefix, hostAddrs func() ([]net.Addr, error)) (*policy, error) {
	p := &policy{hostAddrs: hostAddrs}
	for _, prefix := range allow {
		if !prefix.IsValid() || !prefix.Addr().Is4() {
			return nil, fmt.Errorf("open private network %s: not an IPv4 prefix such as 10.1.2.0/24", prefix)
		}
		for _, r := range closedRanges {
			if r.Overlaps(prefix) {
				return nil, fmt.Errorf("open private network %s: %s is never reachable; name a smaller network", prefix, r)
			}
		}
		p.allowed = append(p.allowed, prefix.Masked())
	}
	return p, nil
}

// permit says why dst must not be dialled, or nil. It is asked for every flow at
// the moment it is dialled: the host's addresses change while a VM runs.
func (p *policy) permit(dst netip.Addr) error {
	dst = dst.Unmap()
	switch {
	case !dst.Is4():
		// The guest has no IPv6, so this is all that stands for the many
		// forms in which IPv6 can carry an IPv4 address.
		return errNotIPv4
	case within(closedRanges, dst):
		return errClosed
	case subnet.Contains(dst):
		// Even where an opened network covers it: the guest means its own
		// network, and the host's network of that name is another one.
		return errOwnSubnet
	case within(privateRanges, dst) && !within(p.allowed, dst):
		return errPrivate
	}
	return p.permitHost(dst)
}

// permitHost refuses the addresses of the host's interfaces, public ones
// included, and the broadcast addresses of their networks.
func (p *policy) permitHost(dst netip.Addr) error {
	for _, prefix := range p.allowed {
		if prefix.IsSingleIP() && prefix.Addr() == dst {
			return nil
		}
	}
	addrs, err := p.hostAddrs()
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range addrs {
		ipNet, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		own, broadcast, ok := ipv4Pair(ipNet)
		if ok && (dst == own || dst == broadcast) {
			return errHost
		}
	}
	return nil
}

// ipv4Pair returns the address and the broadcast address of an interface.
func ipv4Pair(ipNet *net.IPNet) (own, broadcast netip.Addr, ok bool) {
	ip := ipNet.IP.To4()
	ones, bits := ipNet.Mask.Size()
	if ip == nil || bits == 0 {
		return own, broadcast, false
	}
	if bits == 128 { // an IPv4 address with an IPv6-length mask
		ones -= 96
	}
	own = netip.AddrFrom4([4]byte(ip))
	if ones < 0 || ones >= 31 { // RFC 3021: no broadcast
		return own, own, true
	}
	last := [4]byte(ip)
	for i := range last {
		last[i] |= ^net.CIDRMask(ones, 32)[i]
	}
	return own, netip.AddrFrom4(last), true
}

func within(ranges []netip.Prefix, addr netip.Addr) bool {
	for _, r := range ranges {
		if r.Contains(addr) {
			return true
		}
	}
	return false
}

func prefixes(cidrs ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(cidrs))
	for i, c := range cidrs {
		list[i] = netip.MustParsePrefix(c)
	}
	return list
}
