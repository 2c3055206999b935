// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
)

// TestRuntimesHaveSettings: each runtime has a setting for its image, an image
// that the tasks build, and a word in the help.
func TestRuntimesHaveSettings(t *testing.T) {
	t.Parallel()
	build, err := os.ReadFile("../../images/packages.lock")
	require.NoError(t, err)
	all, err := os.ReadFile("../../scripts/images.sh")
	require.NoError(t, err)
	command, _ := reflect.TypeFor[runCmd]().FieldByName("Image")
	require.ElementsMatch(t, environment.Runtimes(), slices.Collect(maps.Keys((&vmFlags{}).images())))
	for _, name := range environment.Runtimes() {
		require.Contains(t, string(build), "\n"+name+" ")
		require.Regexp(t, `set -- .*\b`+name+`\b`, string(all))
		require.Contains(t, command.Tag.Get("help"), name)
		field, ok := reflect.TypeFor[vmFlags]().FieldByName("Image" + strings.ToUpper(name[:1]) + name[1:])
		require.True(t, ok, name)
		require.Equal(t, "WAGGLE_IMAGE_"+strings.ToUpper(name), field.Tag.Get("env"))
	}
}
