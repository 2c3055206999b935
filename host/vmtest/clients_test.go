// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/mcptest"
)

// TestClients: what an agent does, by the official clients of both eras and by the
// inspector's command line, on a real machine.
func TestClients(t *testing.T) {
	clients := mcptest.Find(t)
	s := Install(t).Serve(t)
	for _, era := range []string{legacyEra, modernEra} {
		t.Run(era, func(t *testing.T) {
			out := mcptest.Run(t, clients.Script(t, "machine.mjs", s.URL, era))
			require.Contains(t, out, era+": ok\n")
			t.Log(strings.TrimSpace(out))
		})
	}
	t.Run("inspector", func(t *testing.T) { inspects(t, clients, s.URL) })
}

// TestIdentities: two callers with tokens of their own have nothing to do with each
// other, in both eras.
func TestIdentities(t *testing.T) {
	clients := mcptest.Find(t)
	in := Install(t)
	const one, two = "a-token-for-the-first", "a-token-for-the-second"
	tokens := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("first "+one+"\nsecond "+two+"\n"), 0o600))
	in.Settings = append(in.Settings, "WAGGLE_AUTH_TOKENS_FILE="+tokens)
	s := in.Serve(t)
	for _, era := range []string{legacyEra, modernEra} {
		t.Run(era, func(t *testing.T) {
			require.Contains(t, mcptest.Run(t, clients.Script(t, "identities.mjs", s.URL, era, one, two)), era+": ok\n")
		})
	}
}

// inspects calls each method with a connection of its own, as the command line does.
func inspects(t *testing.T, clients *mcptest.Clients, url string) {
	inspect := func(result any, args ...string) {
		t.Helper()
		args = append([]string{"--cli", url, "--transport", "http", "--format", "json"}, args...)
		cmd := clients.Module(t.Context(), mcptest.Inspector, args...)
		cmd.Env = append(cmd.Env, "HOME="+t.TempDir()) // it keeps settings there
		out := mcptest.Run(t, cmd)
		require.NoError(t, json.Unmarshal([]byte(out), &struct{ Result any }{result}), out)
	}
	call := func(tool string, args map[string]any) (r ToolResult) {
		t.Helper()
		raw, err := json.Marshal(args)
		require.NoError(t, err)
		inspect(&r, "--method", "tools/call", "--tool-name", tool, "--tool-args-json", string(raw))
		return r
	}
	var list struct{ Tools []struct{ Name string } }
	inspect(&list, "--method", "tools/list", "--strict")
	require.GreaterOrEqual(t, len(list.Tools), 8)
	var env environment
	require.NoError(t, json.Unmarshal(call("create_environment", map[string]any{"runtime": "shell"}).Structured, &env))
	require.Contains(t, call("execute", map[string]any{"environment_id": env.ID, "code": "uname -s"}).Text(), "Linux")
	require.Contains(t, string(call("destroy_environment", map[string]any{"environment_id": env.ID}).Structured), `true`)
}
