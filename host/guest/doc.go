// SPDX-License-Identifier: Apache-2.0

// Package guest is the host's side of the guest API: a client of guestd over
// whatever reaches the guest's port, and the ready handshake.
//
// The guest is hostile. Every message that it sends is bounded (maxMessage), an
// offered compression is not taken, and what a caller collects is handed on
// piece by piece, so that the caller decides how much of it to keep.
package guest
