// SPDX-License-Identifier: Apache-2.0

// Package egress is the network of one VM and the rule for what its guest may
// reach. It runs in the VM's supervisor and lives as long as the VM.
//
// The guest's Ethernet frames come in over a Unix socket and end in a user
// space TCP/IP stack (gVisor's netstack). The stack plays the gateway: it
// answers ARP, ping, DHCP and DNS for its own address, and for every other
// TCP connection or UDP flow the package dials the destination from the host's
// own sockets and copies bytes. Nothing is routed: what this package does not
// dial does not leave, so the address judged is the address dialled, there is
// no translation in between, and no privilege is needed on the host.
//
// # Why not gvisor-tap-vsock's VirtualNetwork
//
// It joins the same parts, but hides the stack, and what is missing cannot be
// added from outside: it cannot be closed, sizes a buffer by a length the peer
// sends (up to 4 GiB), indexes into frames shorter than an Ethernet header,
// dials any address without a deadline, caps neither flows nor DNS queries, and
// answers a failed DNS lookup with "no such name". go-microvm's hosted provider
// wraps it and ties it to the context of its start; its firewall relay in front
// decides by packet, so a refused connection times out instead of being reset.
// Of go-microvm the addresses are used (net/topology).
//
// # The guest is hostile
//
// Frames are checked for size and kind before the stack sees them
// (frame.go), flows and their buffers are capped (tcp.go, udp.go), lookups too
// (dns.go). What a guest can gain by misbehaving is the end of its own network.
package egress
