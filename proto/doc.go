// SPDX-License-Identifier: Apache-2.0

// Package proto is the contract between host and guest and between the
// processes of the host. The sources are the .proto files below; gen/ holds the
// Go code that `task gen` makes of them, and baseline.binpb the descriptors that
// `task lint` compares against, so that no change breaks a peer of an older
// version unseen.
package proto

// Versions of waggle.guest.v1 that this tree speaks. The range is negotiated at
// the ready handshake (waggle/guest/v1/ready.proto).
const (
	// GuestProtocolMin is the lowest version.
	GuestProtocolMin uint32 = 1
	// GuestProtocolMax is the highest version.
	GuestProtocolMax uint32 = 1
)
