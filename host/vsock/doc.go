// SPDX-License-Identifier: Apache-2.0

// Package vsock names a port of a guest and reaches it. Waggle's own backends
// offer a Unix socket per port; people who run guestd under a VMM of their own
// have AF_VSOCK or the CONNECT handshake of Firecracker and Cloud Hypervisor:
//
//	unix:///run/waggle/x/guestd.sock   a stream socket of the backend
//	vsock://CID:PORT                   AF_VSOCK (Linux with vhost_vsock)
//	hybrid:///path/to/vsock.sock:PORT  CONNECT over a Unix socket
//
// Every connection has a CloseWrite. On virtio-vsock a plain Close may drop
// what is still queued: CloseWrite, read to EOF, then Close.
package vsock
