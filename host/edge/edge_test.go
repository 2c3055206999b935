// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
)

const (
	legacy = "2025-11-25"
	modern = "2026-07-28"
)

// tools are what the edge is tried with.
type tools struct {
	started chan struct{}
	release chan struct{}
	ended   chan error
}

// newMCP has "count", which sends n notifications before its answer, and "hang",
// which waits for release or the end of its call.
func newMCP(t *tools) *server.MCPServer {
	s := server.NewMCPServer("test", "1", server.WithToolCapabilities(false))
	s.AddTool(mcp.NewTool("count", mcp.WithDescription("counts")), func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range req.GetInt("n", 0) {
			params := map[string]any{"progressToken": req.Params.Meta.ProgressToken, "progress": i + 1}
			if err := edge.Notify(ctx, "notifications/progress", params); err != nil {
				return mcp.NewToolResultError(err.Error()), nil
			}
		}
		return mcp.NewToolResultText("two\nlines"), nil
	})
	s.AddTool(mcp.NewTool("hang", mcp.WithDescription("hangs")), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		t.started <- struct{}{}
		select {
		case <-t.release:
			t.ended <- nil
			return mcp.NewToolResultText("released"), nil
		case <-ctx.Done():
			t.ended <- ctx.Err()
			return nil, ctx.Err()
		}
	})
	return s
}

func serve(t *testing.T, cfg edge.Config) (string, *tools) {
	t.Helper()
	tl := &tools{started: make(chan struct{}, 8), release: make(chan struct{}), ended: make(chan error, 8)}
	cfg.MCP = newMCP(tl)
	e, err := edge.New(cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(e)
	t.Cleanup(func() { srv.Close(); e.Close() })
	return srv.URL, tl
}

type header map[string]string

// request sends one request, as curl would.
func request(t *testing.T, ctx context.Context, method, url, body string, h header) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	for k, v := range h {
		req.Header.Set(k, v)
	}
	if host, ok := h["Host"]; ok {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func post(t *testing.T, url, body string, h header) (int, string, http.Header) {
	t.Helper()
	resp := request(t, t.Context(), http.MethodPost, url+"/mcp", body, h)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b), resp.Header
}

// initializeBody takes a version of the protocol.
const initializeBody = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"%s","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`

func initialize(t *testing.T, url string) string {
	t.Helper()
	status, body, h := post(t, url, fmt.Sprintf(initializeBody, legacy), nil)
	require.Equal(t, 200, status, body)
	id := h.Get("Mcp-Session-Id")
	require.NotEmpty(t, id)
	return id
}

// callBody is a tools/call of either era.
func callBody(era string, id any, tool, args string) string {
	meta := fmt.Sprintf(`"progressToken":%q`, fmt.Sprint("tok-", id))
	if era == modern {
		meta += `,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}`
	}
	idJSON, _ := json.Marshal(id)
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{%s}}}`, idJSON, tool, args, meta)
}

func headers(era, session, tool string) header {
	h := header{"MCP-Protocol-Version": era}
	if era == modern {
		h["Mcp-Method"], h["Mcp-Name"] = "tools/call", tool
	} else if session != "" {
		h["Mcp-Session-Id"] = session
	}
	return h
}

// events reads a stream of server-sent events.
func events(t *testing.T, body string) (data []map[string]any, comments int) {
	t.Helper()
	for s := bufio.NewScanner(bytes.NewBufferString(body)); s.Scan(); {
		if d, ok := strings.CutPrefix(s.Text(), "data: "); ok {
			var v map[string]any
			require.NoError(t, json.Unmarshal([]byte(d), &v), d)
			data = append(data, v)
		}
		if strings.HasPrefix(s.Text(), ":") {
			comments++
		}
	}
	return data, comments
}

// TestNotify: every notification comes on the response of its own call, in
// order, before the answer, also with many calls in one session.
func TestNotify(t *testing.T) {
	t.Parallel()
	for _, era := range []string{legacy, modern} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			url, _ := serve(t, edge.Config{})
			session := ""
			if era == legacy {
				session = initialize(t, url)
			}
			var wg sync.WaitGroup
			for id := range 8 {
				wg.Go(func() {
					status, body, h := post(t, url, callBody(era, id, "count", `{"n":50}`), headers(era, session, "count"))
					if !strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") {
						t.Errorf("call %d: no stream: %d %s", id, status, body)
						return
					}
					data, _ := events(t, body)
					if len(data) != 51 {
						t.Errorf("call %d: %d events, not 51", id, len(data))
						return
					}
					for i, d := range data[:50] {
						p, _ := d["params"].(map[string]any)
						if p["progressToken"] != fmt.Sprint("tok-", id) || p["progress"] != float64(i+1) {
							t.Errorf("call %d: event %d is %v", id, i, d)
						}
					}
					if data[50]["id"] != float64(id) || !strings.Contains(fmt.Sprint(data[50]["result"]), "two\nlines") {
						t.Errorf("call %d: last event is %v", id, data[50])
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestPlain: without a notification, or for a client that takes no streams, the
// answer is plain JSON.
func TestPlain(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, edge.Config{})
	session := initialize(t, url)
	_, body, h := post(t, url, callBody(legacy, 1, "count", `{"n":0}`), headers(legacy, session, "count"))
	require.Equal(t, "application/json", h.Get("Content-Type"))
	require.Contains(t, body, "two")
	hs := headers(legacy, session, "count")
	hs["Accept"] = "application/json"
	_, body, h = post(t, url, callBody(legacy, 2, "count", `{"n":3}`), hs)
	require.Equal(t, "application/json", h.Get("Content-Type"))
	require.Contains(t, body, edge.ErrNoStream.Error())
}

// TestKeepAlive: a silent call becomes a stream of comments and then its answer.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	url, tl := serve(t, edge.Config{KeepAlive: 10 * time.Millisecond})
	resp := request(t, t.Context(), http.MethodPost, url+"/mcp", callBody(legacy, 1, "hang", `{}`), headers(legacy, "", "hang"))
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	require.Equal(t, "no", resp.Header.Get("X-Accel-Buffering"))
	r := bufio.NewReader(resp.Body)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, ": keepalive\n", line)
	close(tl.release)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	data, _ := events(t, string(rest))
	require.Len(t, data, 1)
	require.Contains(t, fmt.Sprint(data[0]), "released")
}

// TestCancelled: a client without a session cannot end a call of another, one
// with a session ends its own, and one that hangs up ends its own.
func TestCancelled(t *testing.T) {
	t.Parallel()
	cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`
	modernCancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	for _, era := range []string{legacy, modern} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			url, tl := serve(t, edge.Config{})
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, url+"/mcp", strings.NewReader(callBody(era, 7, "hang", `{}`)))
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Accept", "application/json, text/event-stream")
				for k, v := range headers(era, "", "hang") {
					req.Header.Set(k, v)
				}
				if resp, err := http.DefaultClient.Do(req); err == nil {
					_ = resp.Body.Close()
				}
			})
			<-tl.started
			other := initialize(t, url)
			for _, try := range []struct {
				body string
				h    header
			}{
				{cancel, header{"MCP-Protocol-Version": legacy}},
				{cancel, nil},
				{modernCancel, header{"MCP-Protocol-Version": modern, "Mcp-Method": "notifications/cancelled"}},
				{cancel, header{"Mcp-Session-Id": other}},
			} {
				status, body, _ := post(t, url, try.body, try.h)
				require.Equal(t, http.StatusAccepted, status, body)
			}
			select {
			case err := <-tl.ended:
				require.Fail(t, "a stranger ended the call", "%v", err)
			default:
			}
			hangUp()
			require.ErrorIs(t, <-tl.ended, context.Canceled)
		})
	}
	t.Run("own session", func(t *testing.T) {
		t.Parallel()
		url, tl := serve(t, edge.Config{})
		session := initialize(t, url)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { post(t, url, callBody(legacy, 7, "hang", `{}`), headers(legacy, session, "hang")) })
		<-tl.started
		post(t, url, cancel, header{"Mcp-Session-Id": session})
		require.ErrorIs(t, <-tl.ended, context.Canceled)
	})
}

// TestSessionless is the second curl of the README, and what such a client
// cannot do.
func TestSessionless(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, edge.Config{})
	status, body, h := post(t, url, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, header{"MCP-Protocol-Version": legacy})
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `"count"`)
	require.Empty(t, h.Get("Mcp-Session-Id"))
	for _, tc := range []struct {
		method, session string
		status          int
	}{
		{http.MethodGet, "", 400},
		{http.MethodGet, "mcp-session-of-nobody", 404},
		{http.MethodPost, "mcp-session-of-nobody", 404},
		{http.MethodDelete, "", 400},
		{http.MethodDelete, "mcp-session-of-nobody", 404},
		{http.MethodPut, "", 405},
	} {
		hs := header{"MCP-Protocol-Version": legacy}
		if tc.session != "" {
			hs["Mcp-Session-Id"] = tc.session
		}
		resp := request(t, t.Context(), tc.method, url+"/mcp", `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, hs)
		require.Equal(t, tc.status, resp.StatusCode, "%s %s", tc.method, tc.session)
	}
	session := initialize(t, url)
	for _, want := range []int{200, 404} { // it is there once
		require.Equal(t, want, request(t, t.Context(), http.MethodDelete, url+"/mcp", "", header{"Mcp-Session-Id": session}).StatusCode)
	}
	status, _, _ = post(t, url, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, header{"Mcp-Session-Id": session})
	require.Equal(t, 404, status)
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, edge.Config{MaxBody: 1000})
	list := `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
	for _, tc := range []struct {
		name, body string
		h          header
		status     int
	}{
		{"no origin", list, nil, 200},
		{"page of this machine", list, header{"Origin": "http://localhost:3000"}, 200},
		{"page of this machine, IPv6", list, header{"Origin": "http://[::1]:3000"}, 200},
		{"page elsewhere", list, header{"Origin": "https://evil.example"}, 403},
		{"page that looks local", list, header{"Origin": "http://localhost.evil.example"}, 403},
		{"opaque origin", list, header{"Origin": "null"}, 403},
		{"rebound name", list, header{"Host": "evil.example"}, 403},
		{"large body", list + strings.Repeat(" ", 1000), nil, 413},
		{"no JSON", "{", nil, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			status, body, _ := post(t, url, tc.body, tc.h)
			require.Equal(t, tc.status, status, body)
		})
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, edge.Config{Ready: func(context.Context) error { return io.ErrClosedPipe }})
	require.Equal(t, 200, request(t, t.Context(), http.MethodGet, url+"/healthz", "", nil).StatusCode)
	require.Equal(t, 503, request(t, t.Context(), http.MethodGet, url+"/readyz", "", nil).StatusCode)
	require.Equal(t, 404, request(t, t.Context(), http.MethodGet, url+"/", "", nil).StatusCode)
}

func TestListen(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "8080", "example.com:80"} {
		_, err := edge.Listen(t.Context(), addr, false)
		require.Error(t, err, addr)
		require.Contains(t, err.Error(), addr)
	}
	require.NoError(t, edge.CheckAddr("0.0.0.0:80", true))
	require.ErrorContains(t, edge.CheckAddr("0.0.0.0:80", false), "WAGGLE_AUTH_TOKENS_FILE")
	for _, port := range []string{"99999", "-1", "", "http"} {
		_, err := edge.Listen(t.Context(), "127.0.0.1:"+port, false)
		require.ErrorContains(t, err, "give 0 to 65535", port)
		require.NotContains(t, err.Error(), "another program")
	}
	ln, err := edge.Listen(t.Context(), "127.0.0.1:0", false)
	require.NoError(t, err)
	_, err = edge.Listen(t.Context(), ln.Addr().String(), false)
	require.ErrorContains(t, err, "another program has the port")
	require.NoError(t, ln.Close())
}

// TestShutdown: a call in flight and an open GET do not hold up the end, and the
// call gets its answer.
func TestShutdown(t *testing.T) {
	t.Parallel()
	tl := &tools{started: make(chan struct{}, 1), release: make(chan struct{}), ended: make(chan error, 1)}
	e, err := edge.New(edge.Config{MCP: newMCP(tl)})
	require.NoError(t, err)
	ln, err := edge.Listen(t.Context(), "127.0.0.1:0", false)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx, ln, 30*time.Second) }()
	url := "http://" + ln.Addr().String()
	session := initialize(t, url)
	get := request(t, t.Context(), http.MethodGet, url+"/mcp", "", header{"Mcp-Session-Id": session, "Accept": "text/event-stream"})
	require.Equal(t, 200, get.StatusCode)
	answer := make(chan string, 1)
	go func() {
		_, body, _ := post(t, url, callBody(legacy, 1, "hang", `{}`), headers(legacy, "", "hang"))
		answer <- body
	}()
	<-tl.started
	stop()
	_, err = io.ReadAll(get.Body) // ends with the session
	require.NoError(t, err)
	close(tl.release)
	require.Contains(t, <-answer, "released")
	require.NoError(t, <-served)
}
