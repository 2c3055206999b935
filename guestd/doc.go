// SPDX-License-Identifier: Apache-2.0

// Package guestd is the agent inside a machine. Serve answers the Connect
// services of waggle.guest.v1 over HTTP/2 without TLS on any listener; RunMachine
// does so as the first process of a machine, from its boot to its power off.
package guestd
