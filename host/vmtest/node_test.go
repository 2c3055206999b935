// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNode is the transcript's part that is different in a node environment.
func TestNode(t *testing.T) {
	in := Install(t)
	c := in.Serve(t).Connect(t)
	var env environment
	c.Call(t, "create_environment", map[string]any{"runtime": "node"}, &env)
	id := func(more map[string]any) map[string]any {
		more["environment_id"] = env.ID
		return more
	}
	var ran executed
	c.Call(t, "execute", id(map[string]any{"code": `
console.log([1, 2].map(n => n * 21));
console.error("trouble");
process.exitCode = 3;
`}), &ran)
	require.Equal(t, executed{ExitCode: 3, Stdout: "[ 21, 42 ]\n", Stderr: "trouble\n"}, ran)
	c.Call(t, "execute", id(map[string]any{"language": "shell", "code": "echo $((6*7))"}), &ran)
	require.Equal(t, "42\n", ran.Stdout)

	var discard map[string]any
	for file, text := range map[string]string{"x.js": "exports.answer = 42", "y.mjs": "export const answer = 43"} {
		c.Call(t, "write_file", id(map[string]any{"path": "/home/sandbox/" + file, "content": text}), &discard)
	}
	c.Call(t, "execute", id(map[string]any{"code": `#!/usr/bin/env node
console.log(require("./x").answer, __dirname, require.main === module, require("fs").readdirSync(".").filter(n => !n.startsWith(".")));
import("./y.mjs").then(m => { console.log(m.answer); null.x });
`}), &ran)
	require.Equal(t, "42 /home/sandbox true [ 'x.js', 'y.mjs' ]\n43\n", ran.Stdout, ran.Stderr)
	require.Contains(t, ran.Stderr, ".js:3\nimport(\"./y.mjs\")", "the caller's line")
	require.Equal(t, 1, ran.ExitCode)

	c.Call(t, "install_packages", id(map[string]any{"packages": "is-number"}), &discard)
	c.Call(t, "execute", id(map[string]any{"code": "console.log(require('is-number')(7))"}), &ran)
	require.Equal(t, "true\n", ran.Stdout, ran.Stderr)
	require.Contains(t, c.Refused(t, "install_packages", id(map[string]any{"packages": "no-such-package-waggle-x"})),
		"no-such-package-waggle-x", "the manager's own words")

	c.Call(t, "destroy_environment", id(map[string]any{}), &discard)
	nothingLeft(t, in, env.ID)
}
