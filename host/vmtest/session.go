// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The eras of MCP that a session speaks. The newer one has no sessions: each
// request says of itself what the older era says once.
const (
	legacyEra = "2025-11-25"
	modernEra = "2026-07-28"
)

// callLimit is beyond the longest call of any test.
const callLimit = 10 * time.Minute

// Session is a client of a server.
type Session struct {
	url, era, token string
	// id is what the server calls the session, in the older era.
	id   string
	next int
}

// ToolResult is the result of tools/call.
type ToolResult struct {
	IsError    bool            `json:"isError"`
	Structured json.RawMessage `json:"structuredContent"`
	Content    []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	} `json:"content"`
}

// Text is the first text of the result.
func (r ToolResult) Text() string {
	if len(r.Content) == 0 {
		return ""
	}
	return r.Content[0].Text
}

// Connect initializes a session of protocol 2025-11-25.
func (s *Server) Connect(t testing.TB) *Session {
	t.Helper()
	c := &Session{url: s.URL, era: legacyEra, token: s.Token}
	c.Do(t, "initialize", map[string]any{
		"protocolVersion": legacyEra, "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "vmtest", "version": "1"},
	}, nil)
	require.NotEmpty(t, c.id, "the server names the session")
	return c
}

// Modern is a client of protocol 2026-07-28.
func (s *Server) Modern() *Session { return &Session{url: s.URL, era: modernEra, token: s.Token} }

// request makes the HTTP request of one call, as the session's era has it.
func (c *Session) request(t testing.TB, method string, params map[string]any) *http.Request {
	t.Helper()
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("Accept", "application/json, text/event-stream")
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	if c.era == modernEra {
		params = maps.Clone(params)
		if params == nil {
			params = map[string]any{}
		}
		params["_meta"] = map[string]any{
			"io.modelcontextprotocol/protocolVersion":    modernEra,
			"io.modelcontextprotocol/clientInfo":         map[string]any{"name": "vmtest", "version": "1"},
			"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		}
		header.Set("Mcp-Method", method)
		if name, ok := params["name"].(string); ok {
			header.Set("Mcp-Name", name)
		}
	}
	if c.id != "" || c.era == modernEra {
		header.Set("MCP-Protocol-Version", c.era)
	}
	if c.id != "" {
		header.Set("Mcp-Session-Id", c.id)
	}
	c.next++
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": c.next, "method": method, "params": params})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header = header
	return req
}

// Do makes one request and decodes its result.
func (c *Session) Do(t testing.TB, method string, params map[string]any, result any) {
	t.Helper()
	resp, err := (&http.Client{Timeout: callLimit}).Do(c.request(t, method, params))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", raw)
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
		require.Equal(t, legacyEra, c.era, "a session in an era that has none")
		c.id = id
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		raw = lastEvent(raw)
	}
	require.NoError(t, json.Unmarshal(raw, &answer), "%s", raw)
	require.Empty(t, answer.Error, "%s", answer.Error)
	if result != nil {
		require.NoError(t, json.Unmarshal(answer.Result, result), "%s", answer.Result)
	}
}

// lastEvent is the data of the last event of a stream: the answer, after comments
// that keep it alive and notifications. A long call is answered that way.
func lastEvent(stream []byte) (data []byte) {
	for line := range bytes.Lines(stream) {
		if rest, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			data = rest
		}
	}
	return data
}

// Call calls a tool and decodes its structured content into out.
func (c *Session) Call(t testing.TB, tool string, args map[string]any, out any) {
	t.Helper()
	var r ToolResult
	c.Do(t, "tools/call", map[string]any{"name": tool, "arguments": args}, &r)
	require.False(t, r.IsError, "%s: %s", tool, r.Text())
	require.NoError(t, json.Unmarshal(r.Structured, out), "%s", r.Structured)
}

// Refused calls a tool that must answer with an error for the caller, and
// returns its words.
func (c *Session) Refused(t testing.TB, tool string, args map[string]any) string {
	t.Helper()
	var r ToolResult
	c.Do(t, "tools/call", map[string]any{"name": tool, "arguments": args}, &r)
	require.True(t, r.IsError, "%s was not refused: %s", tool, r.Structured)
	return r.Text()
}
