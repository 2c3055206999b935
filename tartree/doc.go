// SPDX-License-Identifier: Apache-2.0

// Package tartree turns directory trees into tar archives (POSIX.1-2001, "pax")
// and back, on the host and in the guest.
//
// Kept are regular files, directories, symbolic links, hard links within the
// tree, permissions, times to the nanosecond and, where asked for, owners. Holes
// travel as holes, in the format that GNU tar calls PAX 1.0 sparse. Devices,
// FIFOs and sockets are counted and left out; extended attributes are not kept.
//
// Both directions work below an os.Root: whatever an archive or a racing process
// does with links and "..", nothing outside is read or written.
package tartree
