// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/stacklok/waggle/host/krun"
)

// badPair is a range of libkrun and one of libkrunfw that do not work together,
// though each is fine.
type badPair struct {
	// krunBefore and firmwareFrom are versions.
	krunBefore, firmwareFrom string
	what, remedy             string
}

// badPairs are known from upstream: see docs/libkrun.md.
var badPairs = []badPair{{
	krunBefore: "1.18.1", firmwareFrom: "5.5.0",
	what:   "what a machine sends stops for ever after some 240 KiB (libkrun/libkrun#772)",
	remedy: "take libkrunfw 5.4.0 or older, or libkrun 1.18.1 or later",
}}

// checkPair says of a pair that is known not to work what goes wrong. Where the
// name of a library has no version, its symbols must do: of a pair that may be
// good, nothing is said.
func checkPair(l krun.Libraries) error {
	for _, bad := range badPairs {
		if l.Firmware.Version == "" || before(l.Firmware.Version, bad.firmwareFrom) {
			continue
		}
		version := l.Krun.Version
		if version == "" {
			version = l.AtLeast
		}
		if version == "" || !before(version, bad.krunBefore) {
			continue
		}
		if l.Krun.Version == "" && l.AtLeast == "1.18.0" { // or 1.18.1: the symbols are the same
			continue
		}
		return fmt.Errorf("libkrun %s does not work with libkrunfw %s: %s; %s",
			version, l.Firmware.Version, bad.what, bad.remedy)
	}
	return nil
}

// before compares versions of three numbers.
func before(a, b string) bool {
	var x, y [3]int
	_, _ = fmt.Sscanf(a, "%d.%d.%d", &x[0], &x[1], &x[2]) // what is no number counts as 0
	_, _ = fmt.Sscanf(b, "%d.%d.%d", &y[0], &y[1], &y[2])
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}
