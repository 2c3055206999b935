// SPDX-License-Identifier: Apache-2.0

// Command guestd is Waggle's agent in the guest. As the first process of a
// machine it boots and serves it. Anywhere else it serves on the address given
// with -listen, and changes nothing of the machine it runs on:
//
//	guestd -listen unix:///run/guestd.sock
package main
