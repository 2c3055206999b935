// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"reflect"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/disk"
)

// TestDiskLimits: the defaults of the flags are the package's, each setting arrives, each
// is bounded, and each stands in the table of the documents.
func TestDiskLimits(t *testing.T) {
	var f struct{ diskLimitFlags }
	parser, err := kong.New(&f)
	require.NoError(t, err)
	_, err = parser.Parse(nil)
	require.NoError(t, err)
	require.Equal(t, disk.DefaultLimits, f.limits())
	require.NoError(t, f.check())
	require.Equal(t, "64 GiB unpacked, 32 GiB a file, 1,000,000 files, 256 layers, names of 4095 bytes and 512 directories, "+
		"4156 bytes of attributes a file, 256 MiB of names (WAGGLE_IMAGE_MAX_*)", checkDiskLimits(f.diskLimitFlags).Detail)

	documents, err := os.ReadFile("../../docs/architecture.md")
	require.NoError(t, err)
	kind := reflect.TypeFor[diskLimitFlags]()
	require.Equal(t, reflect.TypeFor[disk.Limits]().NumField(), kind.NumField())
	for i := range kind.NumField() {
		env := kind.Field(i).Tag.Get("env")
		require.Contains(t, string(documents), "| `"+env+"` |")
		t.Setenv(env, "7")
		_, err = parser.Parse(nil)
		require.NoError(t, err)
		require.EqualValues(t, 7, reflect.ValueOf(f.diskLimitFlags).Field(i).Int(), env)
		for _, bad := range []string{"0", "100000000"} {
			_, err = parser.Parse([]string{"--" + kind.Field(i).Tag.Get("name") + "=" + bad})
			require.NoError(t, err)
			require.ErrorContains(t, f.check(), env+" (--"+kind.Field(i).Tag.Get("name")+") is "+bad+": give 1 to ")
		}
	}
}
