// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Required says whether WAGGLE_TEST_REQUIRE, a list with commas, names it: then a
// test that does not find it fails.
func Required(name string) bool {
	return slices.Contains(strings.Split(os.Getenv("WAGGLE_TEST_REQUIRE"), ","), name)
}

// skip ends a test that does not find what name stands for, as a failure where
// that is required.
func skip(t testing.TB, name, why string) {
	t.Helper()
	if Required(name) {
		t.Fatalf("WAGGLE_TEST_REQUIRE has %s, but: %s", name, why)
	}
	t.Skip(why)
}
