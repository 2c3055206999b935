// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
)

// Network is the setting of the first network card.
type Network struct {
	Address netip.Prefix
	Gateway netip.Addr
	MTU     int // bytes
}

// SetNetwork replaces the addresses of the first network card, brings it up and
// makes it the default route. IPv6 is switched off there.
func (m *Machine) SetNetwork(n Network) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list network cards: %w", err)
	}
	for _, link := range links {
		attrs := link.Attrs()
		if link.Type() == "device" && attrs.Flags&net.FlagLoopback == 0 && len(attrs.HardwareAddr) == 6 {
			return setLink(link, n)
		}
	}
	return errors.New("the machine has no network card")
}

func setLink(link netlink.Link, n Network) error {
	name := link.Attrs().Name
	// A kernel without IPv6 has no such file.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if err := netlink.LinkSetMTU(link, n.MTU); err != nil {
		return fmt.Errorf("set MTU of %s: %w", name, err)
	}
	old, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	address := &net.IPNet{
		IP:   n.Address.Addr().AsSlice(),
		Mask: net.CIDRMask(n.Address.Bits(), n.Address.Addr().BitLen()),
	}
	for _, addr := range old {
		if addr.IPNet.String() == address.String() {
			continue
		}
		if err := netlink.AddrDel(link, &addr); err != nil {
			return fmt.Errorf("remove address of %s: %w", name, err)
		}
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: address}); err != nil {
		return fmt.Errorf("set address of %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
		Gw:        n.Gateway.AsSlice(),
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	return nil
}
