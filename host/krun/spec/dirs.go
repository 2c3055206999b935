// SPDX-License-Identifier: Apache-2.0

package spec

import "path/filepath"

// triplets name Debian's directories of libraries.
var triplets = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

// LibraryDirs are where Linux distributions and `make install` put libraries, the
// administrator's first.
func LibraryDirs(goarch string) []string {
	triplet := triplets[goarch]
	return []string{
		"/usr/local/lib64", filepath.Join("/usr/local/lib", triplet), "/usr/local/lib",
		"/usr/lib64", filepath.Join("/usr/lib", triplet), "/usr/lib",
		"/lib64", filepath.Join("/lib", triplet), "/lib",
	}
}
