// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
)

// TestLimits: a caller who does too much is held back, and another one is not.
func TestLimits(t *testing.T) {
	t.Parallel()
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	his := header{"MCP-Protocol-Version": legacy}

	t.Run("rate", func(t *testing.T) {
		t.Parallel()
		url, _ := serve(t, edge.Config{Tokens: twoCallers(t), RequestsPerSecond: 0.01})
		status, body, _ := post(t, url, list, bearer(aliceToken, his)) // the one that may come at once
		require.Equal(t, http.StatusOK, status, body)
		status, body, h := post(t, url, list, bearer(aliceToken, his))
		require.Equal(t, http.StatusTooManyRequests, status)
		require.Contains(t, body, "at most 0.01 a second")
		require.Equal(t, "1", h.Get("Retry-After"))
		status, body, _ = post(t, url, list, bearer(bobToken, his))
		require.Equal(t, http.StatusOK, status, body)
	})
	t.Run("calls at once", func(t *testing.T) {
		t.Parallel()
		url, tl := serve(t, edge.Config{Tokens: twoCallers(t), MaxCalls: 1})
		answer := make(chan string, 1)
		go func() {
			_, body, _ := post(t, url, callBody(legacy, 1, "hang", `{}`), bearer(aliceToken, his))
			answer <- body
		}()
		<-tl.started
		status, body, _ := post(t, url, list, bearer(aliceToken, his))
		require.Equal(t, http.StatusTooManyRequests, status)
		require.Contains(t, body, "1 are under way")
		status, body, _ = post(t, url, list, bearer(bobToken, his))
		require.Equal(t, http.StatusOK, status, body)
		close(tl.release)
		require.Contains(t, <-answer, "released")
		status, body, _ = post(t, url, list, bearer(aliceToken, his))
		require.Equal(t, http.StatusOK, status, body)
	})
}

// TestManySessions: clients that begin and never come back take the place of each
// other, not of one that calls.
func TestManySessions(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, edge.Config{})
	first, kept := initialize(t, url), initialize(t, url)
	for range 1500 {
		initialize(t, url)
		status, body, _ := post(t, url, callBody(legacy, 1, "count", `{"n":0}`), headers(legacy, kept, "count"))
		require.Equal(t, http.StatusOK, status, body)
	}
	status, _, _ := post(t, url, callBody(legacy, 1, "count", `{"n":0}`), headers(legacy, first, "count"))
	require.Equal(t, http.StatusNotFound, status, "the one that was idle longest")
}

// TestOrigins: a page of another origin gets nothing, one that is allowed reads the
// answer.
func TestOrigins(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, edge.Config{AllowedOrigins: []string{"https://agent.example"}})
	for origin, ok := range map[string]bool{
		"https://agent.example": true, "http://localhost:6274": true, "http://127.0.0.1:1": true, "http://[::1]:1": true,
		"http://agent.example": false, "https://agent.example:444": false, "https://x.agent.example": false,
		"http://8000-env-abcdefgh.localhost:8080": false, "null": false, "file://": false, "http://evil.example": false,
	} {
		asked := request(t, t.Context(), http.MethodOptions, url+"/mcp", "",
			header{"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"})
		status, body, h := post(t, url, fmt.Sprintf(initializeBody, legacy), header{"Origin": origin})
		if !ok {
			require.Equal(t, http.StatusForbidden, asked.StatusCode, origin)
			require.Equal(t, http.StatusForbidden, status, origin)
			require.Empty(t, h.Get("Access-Control-Allow-Origin"), origin)
			require.NotContains(t, body, "serverInfo")
			continue
		}
		require.Equal(t, http.StatusNoContent, asked.StatusCode, origin)
		require.Contains(t, asked.Header.Get("Access-Control-Allow-Headers"), "Authorization")
		require.Equal(t, http.StatusOK, status, origin)
		require.Equal(t, origin, h.Get("Access-Control-Allow-Origin"))
	}
	for o, ok := range map[string]bool{
		"https://a.example": true, "http://a:1": true, "a.example": false, "https://a.example/": false, "*": false, "ftp://a": false,
	} {
		require.Equal(t, ok, edge.CheckOrigin(o) == nil, o)
	}
}
