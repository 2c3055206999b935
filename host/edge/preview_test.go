// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
)

// page is the web server of an environment: it says what it was sent, and tries what a
// hostile one would.
func page(t *testing.T) edge.DialFunc {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "wide", Value: "1", Domain: "preview.example"})
		http.SetCookie(w, &http.Cookie{Name: "waggle-preview", Value: "forged"})
		_, _ = fmt.Fprintf(w, "path=%s host=%s auth=%s cookie=%s origin=%s", r.URL.Path, r.Host,
			r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Header.Get("Origin"))
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/landed?x=1", http.StatusFound)
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + r.Header.Get("Upgrade") + "\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString("echo " + line)
		_ = rw.Flush()
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return func(ctx context.Context, env string, port int) (net.Conn, error) {
		if env != "env-aaaaaaaa" || port != 8000 {
			return nil, fmt.Errorf("nothing listens on port %d of %s", port, env)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}
}

// see asks for a page as a browser that does not follow redirects.
func see(t *testing.T, base, host, path string, h header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
	require.NoError(t, err)
	req.Host = host
	for k, v := range h {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(text)
}

// TestPreview: the host of a preview leads to the environment alone, and nothing of
// this server's goes there.
func TestPreview(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, edge.Config{Dial: page(t), Metrics: http.NotFoundHandler()})
	const host = "8000-env-aaaaaaaa.localhost:8080"
	for _, path := range []string{"/", "/mcp", "/healthz", "/readyz", "/metrics", "/.well-known/oauth-protected-resource"} {
		resp, text := see(t, url, host, path, header{"Origin": "http://" + host, "Authorization": "Bearer the-app's-own", "Cookie": "mine=1; waggle-preview=x"})
		require.Equal(t, http.StatusOK, resp.StatusCode, text)
		require.Equal(t, "path="+path+" host=localhost:8000 auth=Bearer the-app's-own cookie=mine=1 origin=http://localhost:8000", text)
		require.Equal(t, []string{"wide=1"}, resp.Header.Values("Set-Cookie"), "of its own host alone")
	}
	resp, _ := see(t, url, host, "/redirect", nil)
	require.Equal(t, "http://"+host+"/landed?x=1", resp.Header.Get("Location"))
	for bad, status := range map[string]int{
		"8001-env-aaaaaaaa.localhost": http.StatusBadGateway, "8000-env-bbbbbbbb.LOCALHOST.": http.StatusBadGateway,
		"99999-env-aaaaaaaa.localhost": http.StatusNotFound, "8000-env-aaaaaaaa.evil.example": http.StatusNotFound,
		"8000-env-aaaaaaaa": http.StatusNotFound,
		// Not of the form, so they are the server's to refuse.
		"0-env-aaaaaaaa.localhost": http.StatusForbidden, "x.8000-env-aaaaaaaa.localhost": http.StatusForbidden,
		"8000-env-aaaaaaa1.localhost": http.StatusForbidden,
	} {
		resp, text := see(t, url, bad, "/mcp", nil)
		require.Equal(t, status, resp.StatusCode, "%s: %s", bad, text)
		require.NotContains(t, text, "jsonrpc")
	}
}

// TestPreviewUpgrade carries what a WebSocket does: both ways after 101.
func TestPreviewUpgrade(t *testing.T) {
	t.Parallel()
	base, _ := serve(t, edge.Config{Dial: page(t)})
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, "GET /upgrade HTTP/1.1\r\nHost: 8000-env-aaaaaaaa.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	_, err = io.WriteString(conn, "hello\n")
	require.NoError(t, err)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "echo hello\n", line)
}

// TestPreviewGrant: with tokens a preview is for who has the signed address, of this
// port of this environment, and the browser keeps a cookie for this host.
func TestPreviewGrant(t *testing.T) {
	t.Parallel()
	s := server.NewMCPServer("test", "1", server.WithToolCapabilities(false))
	s.AddTool(mcp.NewTool("url", mcp.WithDescription("the address")), func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		address, until, err := edge.PreviewURL(ctx, "env-aaaaaaaa", req.GetInt("port", 0))
		if err != nil {
			return mcp.NewToolResultError(err.Error()), nil
		}
		return mcp.NewToolResultText(address + " " + until.Format(time.RFC3339)), nil
	})
	e, err := edge.New(edge.Config{MCP: s, Tokens: twoCallers(t), Dial: page(t), PreviewDomain: "preview.example", PublicURL: "https://waggle.example"})
	require.NoError(t, err)
	ln, err := edge.Listen(t.Context(), "127.0.0.1:0", true)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx, ln, time.Second) }()
	defer func() { stop(); require.NoError(t, <-served) }()
	base := "http://" + ln.Addr().String()

	_, body, _ := post(t, base, callBody(legacy, 1, "url", `{"port":8000}`), bearer(aliceToken, header{"MCP-Protocol-Version": legacy}))
	_, rest, ok := strings.Cut(body, "https://8000-env-aaaaaaaa.preview.example")
	require.True(t, ok, body)
	path, expires, _ := strings.Cut(rest, " ")
	until, err := time.Parse(time.RFC3339, expires[:len(time.RFC3339)-5])
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(12*time.Hour), until, time.Minute)

	const host = "8000-env-aaaaaaaa.preview.example"
	for name, h := range map[string]header{
		"nothing": nil, "a token": bearer(aliceToken, nil), "a cookie": {"Cookie": "waggle-preview=1.x"},
	} {
		resp, _ := see(t, base, host, "/", h)
		require.Equal(t, http.StatusForbidden, resp.StatusCode, name)
	}
	other, _ := see(t, base, "8001-env-aaaaaaaa.preview.example", path, nil)
	require.Equal(t, http.StatusForbidden, other.StatusCode, "a grant is for one port")

	resp, _ := see(t, base, host, path, nil)
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	require.Equal(t, "/", resp.Header.Get("Location"))
	cookie := resp.Cookies()[0]
	require.True(t, cookie.HttpOnly && cookie.Secure && cookie.Domain == "" && cookie.Path == "/", "%v", cookie)
	hers := header{"Cookie": "app=1; " + cookie.Name + "=" + cookie.Value, "Authorization": "Bearer " + aliceToken}
	resp, text := see(t, base, host, "/", hers)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Contains(t, text, "auth= cookie=app=1 ", "neither her token nor the grant")
	resp, _ = see(t, base, host, "/mcp", hers)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	grant, err := url.ParseQuery(strings.TrimPrefix(path, "/.waggle/preview?"))
	require.NoError(t, err)
	require.Equal(t, cookie.Value, grant.Get("grant"))
}
