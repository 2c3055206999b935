// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"path"
	"regexp"
	"strings"

	"github.com/stacklok/waggle/host/krun/spec"
)

// words are what may be a path in a message: up to what ends one in a sentence.
var words = regexp.MustCompile("[^\\s:;,\"'`()]+")

// outside says in the host's paths what the VMM says in those of its jail, which
// nobody outside can look at.
func outside(shown spec.Shown, text string) string {
	return words.ReplaceAllStringFunc(text, func(word string) string {
		inner := strings.TrimRight(word, ".")
		end := word[len(inner):]
		// The longest name: the path itself, or a directory above it.
		for dir, below := inner, ""; len(dir) > 1 && dir[0] == '/'; dir, below = path.Dir(dir), inner[len(path.Dir(dir)):] {
			if host, ok := shown[dir]; ok {
				return host + strings.TrimSuffix(below, "/") + end
			}
		}
		return word
	})
}
