// SPDX-License-Identifier: Apache-2.0

package stdio_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
	"github.com/stacklok/waggle/host/stdio"
)

// backend is a server that can be replaced by a new one, which knows no sessions.
type backend struct {
	edge           atomic.Pointer[edge.Edge]
	starting       atomic.Int32 // how many more requests are answered 503
	started, ended chan string
}

func newBackend(t *testing.T) *backend {
	b := &backend{started: make(chan string, 8), ended: make(chan string, 8)}
	b.restart(t)
	return b
}

func (b *backend) restart(t *testing.T) {
	s := server.NewMCPServer("test", "1", server.WithToolCapabilities(false))
	s.AddTool(mcp.NewTool("count", mcp.WithDescription("counts")), func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range req.GetInt("n", 0) {
			params := map[string]any{"progressToken": req.Params.Meta.ProgressToken, "progress": i + 1}
			if err := edge.Notify(ctx, "notifications/progress", params); err != nil {
				return nil, err
			}
		}
		return mcp.NewToolResultText("counted"), nil
	})
	s.AddTool(mcp.NewTool("hang", mcp.WithDescription("hangs")), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		b.started <- "hang"
		<-ctx.Done()
		b.ended <- ctx.Err().Error()
		return nil, ctx.Err()
	})
	e, err := edge.New(edge.Config{MCP: s})
	require.NoError(t, err)
	t.Cleanup(e.Close)
	b.edge.Store(e)
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b.starting.Add(-1) >= 0 {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	b.edge.Load().ServeHTTP(w, r)
}

// client is the other side of a bridge.
type client struct {
	t     *testing.T
	in    *io.PipeWriter
	out   *bufio.Scanner
	close func()
	done  chan error
}

func dial(t *testing.T, b *backend) *client {
	t.Helper()
	srv := httptest.NewServer(b)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	bridge := &stdio.Bridge{Endpoint: srv.URL + "/mcp", HTTP: http.DefaultTransport}
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{t: t, in: inW, out: bufio.NewScanner(outR), done: make(chan error, 1), close: func() { _ = outR.Close() }}
	c.out.Buffer(nil, 1<<20)
	go func() {
		c.done <- bridge.Run(ctx, inR, outW)
		_ = outW.Close()
	}()
	t.Cleanup(func() {
		cancel()
		_ = inW.Close()
		_ = outR.Close()
		srv.Close()
	})
	return c
}

func (c *client) send(format string, args ...any) {
	c.t.Helper()
	_, err := fmt.Fprintf(c.in, format+"\n", args...)
	require.NoError(c.t, err)
}

// message is what the tests look at.
type message struct {
	ID     any    `json:"id"`
	Method string `json:"method"`
	Result any    `json:"result"`
	Error  struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	Params struct {
		Progress int `json:"progress"`
	} `json:"params"`
}

func (c *client) next() message {
	c.t.Helper()
	require.True(c.t, c.out.Scan(), "the stream ended: %v", c.out.Err())
	var m message
	require.NoError(c.t, json.Unmarshal(c.out.Bytes(), &m), "%s", c.out.Bytes())
	return m
}

func (c *client) initialize() {
	c.t.Helper()
	c.send(`{"jsonrpc":"2.0","id":"first","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	require.Equal(c.t, "first", c.next().ID)
	c.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

const (
	legacyMeta = `"_meta":{"progressToken":"t"}`
	modernMeta = `"_meta":{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
)

func call(id int, tool, args, meta string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s,%s}}`, id, tool, args, meta)
}

// TestCalls: progress comes in order and before the answer, and a cancelled call ends
// in the server and has no answer, in both eras.
func TestCalls(t *testing.T) {
	t.Parallel()
	for name, meta := range map[string]string{"2025-11-25": legacyMeta, "2026-07-28": modernMeta} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			c := dial(t, b)
			if meta == legacyMeta {
				c.initialize()
			}
			c.send("%s", call(1, "count", `{"n":50}`, meta))
			for i := range 50 {
				require.Equal(t, i+1, c.next().Params.Progress)
			}
			require.EqualValues(t, 1, c.next().ID)

			c.send("%s", call(2, "hang", `{}`, meta))
			<-b.started
			c.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`)
			require.Equal(t, context.Canceled.Error(), <-b.ended)
			c.send("%s", call(3, "count", `{"n":0}`, meta))
			require.EqualValues(t, 3, c.next().ID, "nothing came of the cancelled one")
			require.NoError(t, c.in.Close())
			require.NoError(t, <-c.done)
		})
	}
}

// TestRestart: the client of a server that was restarted goes on, also while the new
// one is starting.
func TestRestart(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	c := dial(t, b)
	c.initialize()
	b.restart(t)
	b.starting.Store(3)
	c.send("%s", call(1, "count", `{"n":2}`, legacyMeta))
	require.Equal(t, 1, c.next().Params.Progress)
	require.Equal(t, 2, c.next().Params.Progress)
	m := c.next()
	require.EqualValues(t, 1, m.ID)
	require.NotNil(t, m.Result)
}

func TestBadLines(t *testing.T) {
	t.Parallel()
	c := dial(t, newBackend(t))
	c.send("no json")
	require.Equal(t, -32700, c.next().Error.Code)
	c.send("")
	c.send(`{"jsonrpc":"2.0","id":1,"method":"x","params":"%s"}`, strings.Repeat("x", 17<<20))
	require.Contains(t, c.next().Error.Message, "longer than")
	c.send(`{"jsonrpc":"2.0","id":7,"method":"nothing/of/that/name"}`)
	m := c.next()
	require.EqualValues(t, 7, m.ID)
	require.Equal(t, -32601, m.Error.Code)
}

// TestEnds: the end of the input waits for answers; nobody to read them ends the calls.
func TestEnds(t *testing.T) {
	t.Parallel()
	t.Run("input", func(t *testing.T) {
		t.Parallel()
		c := dial(t, newBackend(t))
		c.send("%s", call(1, "count", `{"n":1}`, legacyMeta))
		require.NoError(t, c.in.Close())
		require.Equal(t, 1, c.next().Params.Progress)
		require.EqualValues(t, 1, c.next().ID)
		require.NoError(t, <-c.done)
	})
	t.Run("output", func(t *testing.T) {
		t.Parallel()
		b := newBackend(t)
		c := dial(t, b)
		c.send("%s", call(1, "hang", `{}`, legacyMeta))
		<-b.started
		c.close()
		c.send("%s", call(2, "count", `{"n":1}`, legacyMeta))
		require.Equal(t, context.Canceled.Error(), <-b.ended)
		require.True(t, errors.Is(<-c.done, io.ErrClosedPipe))
	})
}
