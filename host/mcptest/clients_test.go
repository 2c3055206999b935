// SPDX-License-Identifier: Apache-2.0

package mcptest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
	"github.com/stacklok/waggle/host/mcptest"
)

// TestProgressOfClients: 300 notifications over 4 concurrent calls of one official
// client arrive, in order, each on its own call.
func TestProgressOfClients(t *testing.T) {
	t.Parallel()
	clients := mcptest.Find(t)
	p := product(t)
	addFixtures(p.MCP)
	url := serve(t, p)
	for _, era := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			out := mcptest.Run(t, clients.Script(t, "count.mjs", url, era))
			require.Equal(t, era+": 300 notifications on 4 calls\n", out)
		})
	}
}

// TestDocumentedClient: the configuration that docs/mcp.md gives is one that a client
// takes as it stands, with its own address and token.
func TestDocumentedClient(t *testing.T) {
	t.Parallel()
	clients := mcptest.Find(t)
	const token = "a-token-of-the-documents"
	tokens, err := edge.ReadTokens(strings.NewReader("reader " + token + "\n"))
	require.NoError(t, err)
	p := product(t)
	p.Tokens = tokens
	url := serve(t, p)
	docs, err := os.ReadFile(filepath.Join("..", "..", "docs", "mcp.md"))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(docs), "<!-- checked: claude -->\n```json\n")
	require.True(t, ok)
	block, _, _ := strings.Cut(rest, "```")
	for from, to := range map[string]string{"http://127.0.0.1:8080/mcp": url, "${WAGGLE_TOKEN}": token} {
		require.Contains(t, block, from)
		block = strings.Replace(block, from, to, 1)
	}
	config := filepath.Join(t.TempDir(), "mcp.json")
	require.NoError(t, os.WriteFile(config, []byte(block), 0o600))
	cmd := clients.Module(t.Context(), mcptest.Inspector, "--cli", "--config", config, "--server", "waggle", "--method", "tools/list", "--format", "json")
	cmd.Env = append(cmd.Env, "HOME="+t.TempDir()) // it keeps settings there
	var list struct {
		Result struct{ Tools []struct{ Name string } }
	}
	require.NoError(t, json.Unmarshal([]byte(mcptest.Run(t, cmd)), &list))
	require.GreaterOrEqual(t, len(list.Result.Tools), 8)
}
