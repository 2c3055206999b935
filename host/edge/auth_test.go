// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
)

const (
	aliceToken = "alice-has-a-long-token"
	bobToken   = "bob-has-a-long-token-too"
)

func twoCallers(t *testing.T) *edge.Tokens {
	t.Helper()
	hash := sha256.Sum256([]byte(bobToken))
	tokens, err := edge.ReadTokens(strings.NewReader("# callers\nalice " + aliceToken + "\n\nbob sha256:" + hex.EncodeToString(hash[:]) + "\n"))
	require.NoError(t, err)
	return tokens
}

func bearer(token string, more header) header {
	h := header{"Authorization": "Bearer " + token}
	for k, v := range more {
		h[k] = v
	}
	return h
}

// TestTokens: nothing is served without a known token but what tells nothing.
func TestTokens(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, edge.Config{
		Tokens: twoCallers(t), Ready: func(context.Context) error { return io.ErrUnexpectedEOF },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics")) }),
	})
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	for name, tc := range map[string]struct {
		header    header
		challenge string
	}{
		"none":    {nil, `resource_metadata="` + url + `/.well-known/oauth-protected-resource"`},
		"basic":   {header{"Authorization": "Basic " + aliceToken}, "resource_metadata="},
		"empty":   {header{"Authorization": "Bearer "}, "resource_metadata="},
		"unknown": {bearer("alice-has-a-long-tokem", nil), `error="invalid_token"`},
		"longer":  {bearer(aliceToken+"x", nil), "invalid_token"},
		"a hash":  {bearer("sha256:"+strings.Repeat("0", 64), nil), "invalid_token"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, h := post(t, url, list, tc.header)
			require.Equal(t, http.StatusUnauthorized, status, body)
			require.Contains(t, h.Get("WWW-Authenticate"), tc.challenge)
			require.NotContains(t, body, "tools")
			for _, path := range []string{"/mcp", "/metrics"} {
				require.Equal(t, http.StatusUnauthorized, request(t, t.Context(), http.MethodGet, url+path, "", tc.header).StatusCode)
			}
		})
	}
	for _, token := range []string{aliceToken, bobToken} {
		// A name of this server's, not loopback: a page has no token to send.
		status, body, _ := post(t, url, list, bearer(token, header{"Host": "waggle.example", "MCP-Protocol-Version": legacy}))
		require.Equal(t, http.StatusOK, status, body)
		require.Equal(t, http.StatusOK, request(t, t.Context(), http.MethodGet, url+"/metrics", "", bearer(token, nil)).StatusCode)
	}
	require.Equal(t, http.StatusOK, request(t, t.Context(), http.MethodGet, url+"/healthz", "", nil).StatusCode)
	ready := request(t, t.Context(), http.MethodGet, url+"/readyz", "", nil)
	text, err := io.ReadAll(ready.Body)
	require.NoError(t, err)
	require.Equal(t, "not ready\n", string(text), "the reason is for the operator")
	for _, path := range []string{"", "/mcp"} {
		meta := request(t, t.Context(), http.MethodGet, url+"/.well-known/oauth-protected-resource"+path, "", nil)
		text, err = io.ReadAll(meta.Body)
		require.NoError(t, err)
		require.JSONEq(t, `{"resource":"`+url+`/mcp","resource_name":"Waggle","bearer_methods_supported":["header"]}`, string(text))
	}
}

// TestIdentity: the tools hear whose call it is, and a session serves its owner alone.
func TestIdentity(t *testing.T) {
	t.Parallel()
	type key struct{}
	var seen []string
	url, _ := serve(t, edge.Config{Tokens: twoCallers(t), WithIdentity: func(ctx context.Context, name string) context.Context {
		seen = append(seen, name) // calls come one after the other here
		return context.WithValue(ctx, key{}, name)
	}})
	status, body, h := post(t, url, fmt.Sprintf(initializeBody, legacy), bearer(aliceToken, nil))
	require.Equal(t, http.StatusOK, status, body)
	hers := header{"Mcp-Session-Id": h.Get("Mcp-Session-Id"), "MCP-Protocol-Version": legacy}
	call := callBody(legacy, 1, "count", `{"n":0}`)
	status, body, _ = post(t, url, call, bearer(aliceToken, hers))
	require.Equal(t, http.StatusOK, status, body)
	require.Equal(t, []string{"alice", "alice"}, seen)

	for _, id := range []string{hers["Mcp-Session-Id"], "waggle-NEVERWAS"} {
		his := bearer(bobToken, header{"Mcp-Session-Id": id, "MCP-Protocol-Version": legacy})
		status, body, _ = post(t, url, call, his)
		require.Equal(t, http.StatusNotFound, status, body)
		cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`
		status, _, _ = post(t, url, cancel, his)
		require.Equal(t, http.StatusNotFound, status)
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			require.Equal(t, http.StatusNotFound, request(t, t.Context(), method, url+"/mcp", "", his).StatusCode, method)
		}
	}
	status, body, _ = post(t, url, call, bearer(aliceToken, hers))
	require.Equal(t, http.StatusOK, status, body)
}

func TestReadTokens(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                  "no tokens",
		"# nobody\n":                        "no tokens",
		"alice":                             "line 1: 1 words",
		"alice two words-of-a-token":        "line 1: 3 words",
		"\nal/ice " + aliceToken:            "line 2: name",
		"alice short":                       "line 1: a token of 5 characters: it has 16 to 512",
		"alice sha256:abc":                  "line 1: after sha256: come 64",
		"a " + bobToken + "\nb " + bobToken: "line 2: the token of line 1 again",
	} {
		_, err := edge.ReadTokens(strings.NewReader(text))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), bobToken, "an error ends in a log")
	}
	file := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(file, []byte("alice "+aliceToken), 0o600))
	_, err := edge.ReadTokensFile(file)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(file, 0o640))
	_, err = edge.ReadTokensFile(file)
	require.ErrorContains(t, err, "chmod 600 "+file)
	_, err = edge.ReadTokensFile(filepath.Dir(file))
	require.ErrorContains(t, err, "not a regular file")
}
