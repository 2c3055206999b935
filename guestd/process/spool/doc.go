// SPDX-License-Identifier: Apache-2.0

// Package spool keeps the output of execs in files, from the first byte, and
// lets any number of readers follow it, each at its own pace.
//
// A writer never waits for a reader. Each stream has a limit: the first half
// of it keeps the head, the second half is a ring that keeps the tail, and what
// lies between is dropped and counted. A reader that keeps up sees every byte;
// one that falls behind learns how many it missed.
//
// Much output is collected in blocks of memory, one for each stream, which go to
// the file when they are full: past the page cache where the file system can. A
// reader that keeps up is served from the block, one that does not from the file.
//
// All spools share one budget of bytes. When it is used up, or the disk is
// full, the streams that want to grow are limited to the size they have.
package spool
