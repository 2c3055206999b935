// SPDX-License-Identifier: Apache-2.0

// Package boot is what guestd does as the first process of a machine: it mounts
// the file systems, loads modules, lays the root disk, moves to it, and tells
// the host when it serves.
//
// Start runs in one of two stages. Stage 1 is the host's guestd: in an initial
// file system, where nothing is set up, or on a read-only boot disk, where the
// init of libkrun has mounted some of it its own way. Stage 2 is the guestd that
// was baked into the image, executed by stage 1 in its own place when both speak a
// common protocol; it finds the machine mounted. Without a baked one, stage 1 goes
// on as the agent.
//
// Machine is the only way to change the machine: power, clock, names, network,
// files of the system. Start alone makes one, and only in the first process.
package boot
