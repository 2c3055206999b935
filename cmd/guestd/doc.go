// SPDX-License-Identifier: Apache-2.0

// Command guestd is Waggle's agent in the guest. As the first process of a
// machine it boots and serves it. Anywhere else it serves on the address given
// with -listen, and changes nothing of the machine it runs on:
//
//	guestd -listen unix:///run/guestd.sock
//
// With -ready it also does the ready handshake, with a host that waits on a Unix
// socket instead of a port of the machine's vsock.
package main
