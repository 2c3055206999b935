// SPDX-License-Identifier: Apache-2.0

// Package krunbundle fetches libkrun and libkrunfw as go-microvm publishes them
// with its releases: two archives, which it takes only with the checksums that
// pins.json or the caller names.
//
// Not taken are go-microvm's runner, because Waggle has its own, and its container
// images: a file and its checksum need no registry. go-microvm's package extract,
// which fetches nothing, puts the files on the disk: under a name that is the hash
// of their content, in one step, with a manifest.
//
//	<dir>/extract-<hash>/   libkrun.so.1 and libkrunfw.so.5, the licence, a manifest
//	<dir>/current           a link to one of them, for krun.Find
package krunbundle
