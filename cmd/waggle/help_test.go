// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// TestHelp: each example of a command's help stands on a line of its own. What begins
// with an example has none: kong cuts off the spaces that make it one.
func TestHelp(t *testing.T) {
	t.Parallel()
	var c cli
	var out bytes.Buffer
	ended := 0
	parser, err := kong.New(&c, kong.Name("waggle"), kong.Writers(&out, &out), kong.Exit(func(int) { ended++ }))
	require.NoError(t, err)
	examples := 0
	for _, command := range parser.Model.Leaves(false) {
		out.Reset()
		words := strings.Fields(command.Path())
		// What follows the help is a complaint of kong's that arguments are missing.
		_, _ = parser.Parse(append(words, "--help"))
		require.NotEmpty(t, out.String(), command.Path())
		var shown []string
		for line := range strings.Lines(out.String()) {
			shown = append(shown, strings.TrimSpace(line))
		}
		for line := range strings.Lines(command.Detail) {
			if !strings.HasPrefix(line, " ") {
				continue
			}
			examples++
			require.True(t, slices.Contains(shown, strings.TrimSpace(line)), "%s: %q is run into the text:\n%s", command.Path(), line, out.String())
		}
	}
	require.Equal(t, len(parser.Model.Leaves(false)), ended)
	require.Greater(t, examples, 30)
}
