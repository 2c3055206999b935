// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// hostOf makes the addresses of a host out of CIDRs.
func hostOf(cidrs ...string) func() ([]net.Addr, error) {
	return func() ([]net.Addr, error) {
		var addrs []net.Addr
		for _, c := range cidrs {
			ip, ipNet, err := net.ParseCIDR(c)
			if err != nil {
				return nil, err
			}
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: ipNet.Mask})
		}
		return addrs, nil
	}
}

func TestPolicyPermit(t *testing.T) {
	t.Parallel()
	host := hostOf("127.0.0.1/8", "10.1.0.5/16", "198.51.100.5/24", "192.0.2.1/31", "2001:db8::5/64", "172.17.0.1/16")
	open := prefixes("10.1.0.0/16", "192.168.0.0/16", "172.17.0.1/32")
	tests := []struct {
		addr  string
		plain error // without AllowPrivate
		open  error // with open
	}{
		{"8.8.8.8", nil, nil},
		{"1.1.1.1", nil, nil},
		{"11.0.0.0", nil, nil},
		{"9.255.255.255", nil, nil},
		{"172.15.255.255", nil, nil},
		{"172.32.0.0", nil, nil},
		{"100.63.255.255", nil, nil},
		{"100.128.0.0", nil, nil},
		{"223.255.255.255", nil, nil},
		{"192.0.1.0", nil, nil},
		// Documentation and benchmark ranges.
		{"203.0.113.0", nil, nil},
		{"203.0.113.7", nil, nil},
		{"203.0.113.255", nil, nil},
		{"192.0.2.9", nil, nil},
		{"198.51.100.9", nil, nil},
		{"198.18.0.1", nil, nil},
		// Never.
		{"0.0.0.0", errClosed, errClosed},
		{"0.1.2.3", errClosed, errClosed},
		{"127.0.0.1", errClosed, errClosed},
		{"127.255.255.254", errClosed, errClosed},
		{"169.254.169.254", errClosed, errClosed},
		{"169.254.0.0", errClosed, errClosed},
		{"168.63.129.16", errClosed, errClosed},
		{"168.63.129.17", nil, nil},
		{"224.0.0.1", errClosed, errClosed},
		{"239.255.255.250", errClosed, errClosed},
		{"240.0.0.1", errClosed, errClosed},
		{"255.255.255.255", errClosed, errClosed},
		// Private, of which open opens a part.
		{"10.0.0.1", errPrivate, errPrivate},
		{"10.255.255.255", errPrivate, errPrivate},
		{"10.1.2.3", errPrivate, nil},
		{"172.16.0.1", errPrivate, errPrivate},
		{"172.31.255.255", errPrivate, errPrivate},
		{"192.168.1.1", errPrivate, nil},
		{"100.64.0.1", errPrivate, errPrivate},
		{"100.100.100.200", errPrivate, errPrivate},
		{"192.0.0.192", errPrivate, errPrivate},
		// The VM's own network, even where open covers it.
		{"192.168.127.1", errOwnSubnet, errOwnSubnet},
		{"192.168.127.2", errOwnSubnet, errOwnSubnet},
		{"192.168.127.255", errOwnSubnet, errOwnSubnet},
		// The host, whose private addresses are opened one by one only.
		{"198.51.100.5", errHost, errHost},
		{"198.51.100.255", errHost, errHost}, // broadcast of its network
		{"192.0.2.1", errHost, errHost},
		{"192.0.2.0", nil, nil}, // the other end of a /31
		{"10.1.0.5", errPrivate, errHost},
		{"10.1.255.255", errPrivate, errHost},
		{"172.17.0.1", errPrivate, nil},
		{"172.17.0.2", errPrivate, errPrivate},
		// IPv4 in IPv6 is judged as IPv4, all other IPv6 refused.
		{"::ffff:8.8.8.8", nil, nil},
		{"::ffff:127.0.0.1", errClosed, errClosed},
		{"::ffff:10.0.0.1", errPrivate, errPrivate},
		{"::ffff:169.254.169.254", errClosed, errClosed},
		{"::127.0.0.1", errNotIPv4, errNotIPv4},
		{"64:ff9b::7f00:1", errNotIPv4, errNotIPv4},
		{"2002:7f00:1::", errNotIPv4, errNotIPv4},
		{"::", errNotIPv4, errNotIPv4},
		{"::1", errNotIPv4, errNotIPv4},
		{"fe80::1%eth0", errNotIPv4, errNotIPv4},
		{"fd00:ec2::254", errNotIPv4, errNotIPv4},
		{"ff02::1", errNotIPv4, errNotIPv4},
		{"2001:db8::5", errNotIPv4, errNotIPv4},
		{"2606:4700::1111", errNotIPv4, errNotIPv4},
	}
	plain, err := newPolicy(nil, host)
	require.NoError(t, err)
	opened, err := newPolicy(open, host)
	require.NoError(t, err)
	for _, tt := range tests {
		t.Run(tt.addr, func(t *testing.T) {
			t.Parallel()
			addr := netip.MustParseAddr(tt.addr)
			require.Equal(t, tt.plain, plain.permit(addr), "plain")
			require.Equal(t, tt.open, opened.permit(addr), "opened")
		})
	}
	require.Equal(t, errNotIPv4, plain.permit(netip.Addr{}))
}

func TestPolicyAsksForTheHostsAddressesEachTime(t *testing.T) {
	t.Parallel()
	now := hostOf()
	p, err := newPolicy(nil, func() ([]net.Addr, error) { return now() })
	require.NoError(t, err)
	addr := netip.MustParseAddr("203.0.113.7")
	require.NoError(t, p.permit(addr))

	now = hostOf("203.0.113.7/24")
	require.ErrorIs(t, p.permit(addr), errHost)

	broken := errors.New("no netlink")
	now = func() ([]net.Addr, error) { return nil, broken }
	require.ErrorIs(t, p.permit(addr), broken, "what cannot be checked is refused")
}

func TestPolicyKnowsThisHost(t *testing.T) {
	t.Parallel()
	p, err := newPolicy(nil, net.InterfaceAddrs)
	require.NoError(t, err)
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	require.NotEmpty(t, addrs)
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.(*net.IPNet).IP)
		require.True(t, ok)
		require.Error(t, p.permit(ip), ip.String())
	}
}

func TestNewPolicyRefusesPrefixes(t *testing.T) {
	t.Parallel()
	for _, cidr := range []string{
		"127.0.0.0/8", "127.0.0.1/32", "0.0.0.0/0", "128.0.0.0/1", "169.254.169.254/32",
		"168.63.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "fd00::/8", "::ffff:10.0.0.0/104",
	} {
		_, err := newPolicy([]netip.Prefix{netip.MustParsePrefix(cidr)}, hostOf())
		require.ErrorContains(t, err, cidr)
	}
	_, err := newPolicy([]netip.Prefix{{}}, hostOf())
	require.Error(t, err)
}

func TestPolicyMasksPrefixes(t *testing.T) {
	t.Parallel()
	p, err := newPolicy([]netip.Prefix{netip.MustParsePrefix("10.9.8.7/16")}, hostOf())
	require.NoError(t, err)
	require.NoError(t, p.permit(netip.MustParseAddr("10.9.0.1")))
	require.ErrorIs(t, p.permit(netip.MustParseAddr("10.8.0.1")), errPrivate)
}
