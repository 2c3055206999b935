// SPDX-License-Identifier: Apache-2.0

package tools_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
	"github.com/stacklok/waggle/host/tools"
)

const (
	legacy = "2025-11-25"
	modern = "2026-07-28"
)

// client speaks MCP over HTTP, in one era.
type client struct {
	t       *testing.T
	url     string
	era     string
	session string
	next    int
}

func newServer(t *testing.T, maximum int) (*envtest.Fleet, string) {
	t.Helper()
	fleet := envtest.NewFleet(t)
	m, err := environment.New(environment.Config{
		Launch: fleet.Launch, Holder: "test", Max: maximum, CPUs: 1, MemoryMiB: 512, DiskMiB: 1024,
		Idle: 30 * time.Minute, ExecDefault: 30 * time.Second, ExecMax: 5 * time.Minute,
	})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	s, err := tools.New(tools.Config{Manager: m, Notify: edge.Notify, Version: "test"})
	require.NoError(t, err)
	e, err := edge.New(edge.Config{MCP: s})
	require.NoError(t, err)
	srv := httptest.NewServer(e)
	t.Cleanup(func() { srv.Close(); e.Close() })
	return fleet, srv.URL + "/mcp"
}

// connect begins a session in the older era; the newer one has none.
func connect(t *testing.T, url, era string) *client {
	t.Helper()
	c := &client{t: t, url: url, era: era}
	if era == legacy {
		r := c.call("initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`)
		require.Equal(t, legacy, r.result["protocolVersion"])
		require.NotEmpty(t, r.result["instructions"])
		require.NotEmpty(t, c.session)
		return c
	}
	r := c.call("server/discover", `{}`)
	require.Contains(t, fmt.Sprint(r.result), "2026-07-28")
	return c
}

type reply struct {
	result   map[string]any
	err      map[string]any
	progress []string
}

func (r reply) isError() bool { e, _ := r.result["isError"].(bool); return e }

func (r reply) text() string {
	var text []string
	content, _ := r.result["content"].([]any)
	for _, c := range content {
		text = append(text, fmt.Sprint(c.(map[string]any)["text"]))
	}
	return strings.Join(text, "\n")
}

func (r reply) out() map[string]any { o, _ := r.result["structuredContent"].(map[string]any); return o }

// call sends one request and takes notifications and answer, however they come.
func (c *client) call(method, params string) reply {
	c.t.Helper()
	c.next++
	var p map[string]any
	require.NoError(c.t, json.Unmarshal([]byte(params), &p))
	meta := map[string]any{"progressToken": c.next}
	if c.era == modern {
		meta["io.modelcontextprotocol/protocolVersion"] = modern
		meta["io.modelcontextprotocol/clientInfo"] = map[string]any{"name": "t", "version": "1"}
		meta["io.modelcontextprotocol/clientCapabilities"] = map[string]any{}
	}
	p["_meta"] = meta
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": c.next, "method": method, "params": p})
	require.NoError(c.t, err)
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url, bytes.NewReader(body))
	require.NoError(c.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if method != "initialize" {
		req.Header.Set("MCP-Protocol-Version", c.era)
	}
	if c.era == modern {
		req.Header.Set("Mcp-Method", method)
		if name, ok := p["name"].(string); ok {
			req.Header.Set("Mcp-Name", name)
		}
		if uri, ok := p["uri"].(string); ok {
			req.Header.Set("Mcp-Name", uri)
		}
	}
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(c.t, err)
	defer func() { _ = resp.Body.Close() }()
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
		require.Equal(c.t, legacy, c.era)
		c.session = id
	}
	data, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return c.parse(data, strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"))
}

func (c *client) parse(data []byte, stream bool) reply {
	c.t.Helper()
	messages := [][]byte{data}
	if stream {
		messages = nil
		for line := range bytes.Lines(data) {
			if d, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
				messages = append(messages, d)
			}
		}
	}
	var r reply
	for _, d := range messages {
		var m struct {
			ID            any
			Method        string
			Params        map[string]any
			Result, Error map[string]any
		}
		require.NoError(c.t, json.Unmarshal(d, &m), "%s", d)
		if m.Method == "notifications/progress" {
			require.Equal(c.t, float64(c.next), m.Params["progressToken"])
			require.Equal(c.t, float64(len(r.progress)+1), m.Params["progress"])
			r.progress = append(r.progress, fmt.Sprint(m.Params["message"]))
			continue
		}
		require.Equal(c.t, float64(c.next), m.ID)
		r.result, r.err = m.Result, m.Error
	}
	require.True(c.t, r.result != nil || r.err != nil, "no answer in %s", data)
	return r
}

// tool calls a tool that must succeed.
func (c *client) tool(name string, args map[string]any) reply {
	c.t.Helper()
	r := c.try(name, args)
	require.Nil(c.t, r.err)
	require.False(c.t, r.isError(), r.text())
	require.NotEmpty(c.t, r.text())
	return r
}

func (c *client) try(name string, args map[string]any) reply {
	c.t.Helper()
	params, err := json.Marshal(map[string]any{"name": name, "arguments": args})
	require.NoError(c.t, err)
	return c.call("tools/call", string(params))
}

// TestCurl sends the two commands of the README, byte for byte.
func TestCurl(t *testing.T) {
	t.Parallel()
	_, url := newServer(t, 1)
	for _, tc := range []struct {
		body, version, want string
	}{
		{`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl-test","version":"0.1"}}}`, "", `"protocolVersion":"2025-11-25"`},
		{`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, "2025-11-25", `"create_environment"`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(tc.body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if tc.version != "" {
			req.Header.Set("MCP-Protocol-Version", tc.version)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 200, resp.StatusCode)
		// jq must be able to read it.
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		require.True(t, json.Valid(body))
		require.Contains(t, string(body), tc.want)
	}
}

// TestToolsList: what a client needs to use a tool without trying it.
func TestToolsList(t *testing.T) {
	t.Parallel()
	_, url := newServer(t, 1)
	want := map[string]string{
		"create_environment":  "",
		"destroy_environment": "environment_id",
		"list_environments":   "",
		"execute":             "environment_id",
		"get_execution":       "environment_id execution_id",
		"cancel_execution":    "environment_id execution_id",
		"install_packages":    "environment_id packages",
		"write_file":          "content environment_id path",
		"read_file":           "environment_id path",
		"list_files":          "environment_id",
		"get_environment":     "environment_id",
		"edit_file":           "environment_id new_text old_text path",
		"expose_port":         "environment_id port",
	}
	for _, era := range []string{legacy, modern} {
		list, _ := connect(t, url, era).call("tools/list", `{}`).result["tools"].([]any)
		require.Len(t, list, len(want))
		for _, v := range list {
			tool := v.(map[string]any)
			name := tool["name"].(string)
			require.Contains(t, want, name)
			require.NotEmpty(t, tool["title"], name)
			require.NotEmpty(t, tool["description"], name)
			require.Equal(t, "object", tool["outputSchema"].(map[string]any)["type"], name)
			for p, schema := range tool["outputSchema"].(map[string]any)["properties"].(map[string]any) {
				require.IsType(t, "", schema.(map[string]any)["type"], "%s of %s", p, name)
			}
			in := tool["inputSchema"].(map[string]any)
			require.Equal(t, "object", in["type"], name)
			required, _ := in["required"].([]any)
			for _, r := range required {
				require.Contains(t, want[name], r)
			}
			require.Len(t, required, len(strings.Fields(want[name])), name)
			properties, ok := in["properties"].(map[string]any)
			require.True(t, ok, name)
			for p, schema := range properties {
				require.NotEmpty(t, schema.(map[string]any)["description"], "%s of %s", p, name)
			}
			hints := tool["annotations"].(map[string]any)
			for _, h := range []string{"title", "readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} {
				require.Contains(t, hints, h, name)
			}
		}
	}
}
