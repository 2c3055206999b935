// SPDX-License-Identifier: Apache-2.0

// Package identity holds the one number that keeps commands which run as root
// apart from guestd, which is root too.
package identity

// UID is the real and the saved user of a guestd that owns its machine; the
// effective one is root, and with it go all capabilities. Root may signal a
// process, and set its limits, when root is the real or the saved user of that
// process (kill(2), prlimit(2)). No command can become this user (package spawn),
// and what the scratch disk keeps for it is guestd's alone (package boot).
const UID = 0x77616767
