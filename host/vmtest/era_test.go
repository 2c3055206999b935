// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestModernEra is a short transcript in the protocol without sessions, in the
// runtime that no other transcript uses.
func TestModernEra(t *testing.T) {
	in := Install(t)
	c := in.Serve(t).Modern()
	var about struct {
		SupportedVersions []string `json:"supportedVersions"`
	}
	c.Do(t, "server/discover", nil, &about)
	require.Contains(t, about.SupportedVersions, modernEra)
	var tools struct {
		Tools []struct{ Name string }
	}
	c.Do(t, "tools/list", nil, &tools)
	theEight(t, tools.Tools)

	var env environment
	c.Call(t, "create_environment", map[string]any{"runtime": "shell"}, &env)
	require.Equal(t, "running", env.State)
	var ran executed
	c.Call(t, "execute", map[string]any{"environment_id": env.ID, "code": `
for tool in curl git jq; do command -v $tool; done
echo '{"a": 42}' | jq .a
echo trouble >&2
exit 3
`}, &ran)
	require.Equal(t, executed{
		ExitCode: 3, Stdout: "/usr/bin/curl\n/usr/bin/git\n/usr/bin/jq\n42\n", Stderr: "trouble\n",
	}, ran)

	var discard map[string]any
	c.Call(t, "destroy_environment", map[string]any{"environment_id": env.ID}, &discard)
	nothingLeft(t, in, env.ID)
}
