// SPDX-License-Identifier: Apache-2.0

// Package version says which build of Waggle this is.
package version

import "runtime/debug"

// Version is set by the linker (-X); a plain `go build` leaves it empty.
var Version string

// String returns the version of this build: what the linker set, else the
// commit that Go recorded, else "dev".
func String() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "dev"
}
