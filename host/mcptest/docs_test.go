// SPDX-License-Identifier: Apache-2.0

package mcptest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tools into docs/mcp.md anew")

const (
	docsBegin = "<!-- tools: written by go test ./host/mcptest -run TestDocs -update -->\n"
	docsEnd   = "<!-- end of tools -->\n"
)

// example is a call that docs/mcp.md shows. ENV stands for the environment that the
// first one makes.
type example struct {
	Tool      string         `json:"tool"`
	Arguments map[string]any `json:"arguments"`
}

// TestDocs: docs/mcp.md describes the tools that there are, with examples as they
// answer.
func TestDocs(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "mcp.md")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(raw), docsBegin)
	require.True(t, ok, "docs/mcp.md has no line %q", docsBegin)
	_, after, ok := strings.Cut(rest, docsEnd)
	require.True(t, ok, "docs/mcp.md has no line %q", docsEnd)
	want := before + docsBegin + "\n" + describe(t, serve(t, product(t))) + docsEnd + after
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(raw), "docs/mcp.md is stale: go test ./host/mcptest -run TestDocs -update")
}

// describe writes a section for each tool, in the order of the list that clients get.
func describe(t *testing.T, url string) string {
	var list struct{ Tools []mcp.Tool }
	ask(t, url, "tools/list", nil, &list)
	shown := examples(t, url)
	var b strings.Builder
	for _, tool := range list.Tools {
		fmt.Fprintf(&b, "### %s\n\n%s\n\n", tool.Name, tool.Description)
		writeHints(&b, tool)
		writeParameters(t, &b, tool)
		if shown[tool.Name] == "" {
			t.Logf("%s has no example: give it one in testdata/examples.json", tool.Name)
		}
		b.WriteString(shown[tool.Name])
	}
	return b.String()
}

func writeHints(b *strings.Builder, tool mcp.Tool) {
	var hints []string
	for _, h := range []struct {
		value *bool
		name  string
	}{
		{tool.Annotations.ReadOnlyHint, "read-only"}, {tool.Annotations.DestructiveHint, "destructive"},
		{tool.Annotations.IdempotentHint, "idempotent"}, {tool.Annotations.OpenWorldHint, "open world"},
	} {
		if h.value != nil && *h.value {
			hints = append(hints, h.name)
		}
	}
	if len(hints) > 0 {
		fmt.Fprintf(b, "Hints: %s.\n\n", strings.Join(hints, ", "))
	}
}

func writeParameters(t *testing.T, b *strings.Builder, tool mcp.Tool) {
	raw, err := json.Marshal(tool.InputSchema)
	if tool.RawInputSchema != nil {
		raw, err = tool.RawInputSchema, nil
	}
	require.NoError(t, err)
	var schema struct {
		Properties map[string]struct {
			Type, Description string
			Enum              []string
		}
		Required []string
	}
	require.NoError(t, json.Unmarshal(raw, &schema))
	if len(schema.Properties) == 0 {
		b.WriteString("No parameters.\n\n")
		return
	}
	b.WriteString("| parameter | type | |\n|---|---|---|\n")
	names := slices.Sorted(maps.Keys(schema.Properties))
	needed := func(name string) int {
		if slices.Contains(schema.Required, name) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(names, func(x, y string) int { return needed(x) - needed(y) })
	for _, name := range names {
		p := schema.Properties[name]
		text := p.Description
		if needed(name) == 0 {
			text = "Required. " + text
		}
		if len(p.Enum) > 0 {
			text += " One of: " + strings.Join(p.Enum, ", ") + "."
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, p.Type, strings.ReplaceAll(text, "|", `\|`))
	}
	b.WriteByte('\n')
}

// examples makes the calls, one after the other, and returns what a reader sees of
// each, by tool.
func examples(t *testing.T, url string) map[string]string {
	raw, err := os.ReadFile(filepath.Join("testdata", "examples.json"))
	require.NoError(t, err)
	var calls []example
	require.NoError(t, json.Unmarshal(raw, &calls))
	shown := map[string]string{}
	env := ""
	for _, c := range calls {
		if c.Arguments["environment_id"] == "ENV" {
			c.Arguments["environment_id"] = env
		}
		var r struct {
			IsError           bool
			StructuredContent json.RawMessage
			Content           []struct{ Text string }
		}
		params := struct {
			Name      string         `json:"name"`
			Arguments map[string]any `json:"arguments"`
		}{c.Tool, c.Arguments}
		ask(t, url, "tools/call", params, &r)
		require.False(t, r.IsError, "%s: %v", c.Tool, r.Content)
		if env == "" {
			var made struct {
				ID string `json:"environment_id"`
			}
			require.NoError(t, json.Unmarshal(r.StructuredContent, &made))
			env = made.ID
		}
		request, err := json.Marshal(params)
		require.NoError(t, err)
		var result strings.Builder
		enc := json.NewEncoder(&result)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		require.NoError(t, enc.Encode(r.StructuredContent))
		require.NotEmpty(t, r.Content)
		shown[c.Tool] = timeless(fmt.Sprintf("`tools/call` with\n\n```json\n%s\n```\n\nhas the structured result\n\n```json\n%s```\n\nand the text\n\n```text\n%s\n```\n\n",
			request, result.String(), strings.TrimRight(r.Content[0].Text, "\n")))
	}
	return shown
}

// timeless replaces what is different each time.
func timeless(text string) string {
	for _, r := range []struct{ pattern, by string }{
		{`"sha256:0"`, `"sha256:5f2b…"`},
		{`env-[a-z2-7]{8}`, "env-k3wq7n2x"},
		{`\b(x|exec-)[a-z2-7]{8,12}(-\d)?\b`, "exec-m4tz6d2a"},
		{`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`, "2026-07-28T09:00:00Z"},
		{`"execution_id": "[a-z2-7]{12}"`, `"execution_id": "m4tz6d2a7q3x"`},
		{`exec/[a-z2-7]{12}/`, "exec/m4tz6d2a7q3x/"},
		{`localhost:\d+`, "localhost:8080"},
		{`"duration_ms": \d+`, `"duration_ms": 41`},
		{`after \d+ ms`, "after 41 ms"},
		{`in \d+(\.\d+)? s`, "in 5.2 s"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.by)
	}
	return text
}

// ask makes a request without a session.
func ask(t *testing.T, url, method string, params, result any) {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(raw))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var response struct{ Result, Error json.RawMessage }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&response))
	require.Empty(t, response.Error, "%s", response.Error)
	require.NoError(t, json.Unmarshal(response.Result, result))
}
