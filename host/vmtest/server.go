// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serverLimit turns a server that does not start or end into a failure.
const serverLimit = 30 * time.Second

// callLimit is beyond the longest call of any test.
const callLimit = 10 * time.Minute

// Server is a running `waggle serve`.
type Server struct {
	URL string
	cmd *exec.Cmd
	// done is closed when the process has been waited for.
	done chan struct{}
}

var urlLine = regexp.MustCompile(`http://[0-9.:]+/mcp`)

// Serve starts a server on a free port and returns when it has printed its URL.
// The server is ended with the test.
func (in *Installation) Serve(t testing.TB) *Server {
	t.Helper()
	s := &Server{done: make(chan struct{})}
	s.cmd = exec.Command(in.Waggle, "serve", "--listen-addr=127.0.0.1:0") // ended in Cleanup, by SIGTERM
	in.prepare(s.cmd)
	out, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	stderr := &bytes.Buffer{}
	s.cmd.Stderr = stderr
	require.NoError(t, s.cmd.Start())
	url := make(chan string, 1)
	go func() {
		defer close(s.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if u := urlLine.FindString(lines.Text()); u != "" {
				url <- u
			}
		}
		_ = s.cmd.Wait() // how it ended is the test's own question
	}()
	t.Cleanup(func() {
		s.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(serverLimit):
			s.Signal(syscall.SIGKILL)
			<-s.done
			t.Error("the server did not end on SIGTERM")
		}
		if t.Failed() {
			t.Logf("server's log:\n%s", stderr.String())
		}
	})
	select {
	case s.URL = <-url:
	case <-s.done:
		t.Fatalf("the server ended: %s", stderr.String())
	case <-time.After(serverLimit):
		t.Fatal("the server did not print its URL")
	}
	return s
}

// PID is the process id of the server.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Signal sends sig to the server, if it still runs.
func (s *Server) Signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// Kill ends the server as a crash would, and waits for it.
func (s *Server) Kill() {
	s.Signal(syscall.SIGKILL)
	<-s.done
}

// Session is an MCP session of protocol 2025-11-25.
type Session struct {
	url, id string
	next    int
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

// Connect initializes a session.
func (s *Server) Connect(t testing.TB) *Session {
	t.Helper()
	c := &Session{url: s.URL}
	c.Do(t, "initialize", map[string]any{
		"protocolVersion": "2025-11-25", "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "vmtest", "version": "1"},
	}, nil)
	require.NotEmpty(t, c.id, "the server names the session")
	return c
}

// Do makes one request and decodes its result.
func (c *Session) Do(t testing.TB, method string, params, result any) {
	t.Helper()
	c.next++
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": c.next, "method": method, "params": params})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if c.id != "" {
		req.Header.Set("Mcp-Session-Id", c.id)
		req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	}
	resp, err := (&http.Client{Timeout: callLimit}).Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", raw)
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
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
