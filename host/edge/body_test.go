// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
)

// TestLargeBodiesTakeTurns: a caller with a large call under way has another one wait,
// but no small one, and no other caller.
func TestLargeBodiesTakeTurns(t *testing.T) {
	t.Parallel()
	const one, two = "a-token-of-the-first", "a-token-of-the-second"
	tokens, err := edge.ReadTokens(strings.NewReader("first " + one + "\nsecond " + two + "\n"))
	require.NoError(t, err)
	ts := &tools{started: make(chan struct{}, 9), release: make(chan struct{}), ended: make(chan error, 9)}
	e, err := edge.New(edge.Config{MCP: newMCP(ts), MaxBody: 1 << 20, Tokens: tokens})
	require.NoError(t, err)
	t.Cleanup(e.Close)
	ln, err := edge.Listen(t.Context(), "127.0.0.1:0", true)
	require.NoError(t, err)
	srv := &http.Server{Handler: e}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })

	// call hangs in a tool. Without a length, its body counts as the longest.
	call := func(token string, size int) chan int {
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"hang","arguments":{"x":"` + strings.Repeat("x", size) + `"}}}`
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+ln.Addr().String()+"/mcp", iotest.DataErrReader(strings.NewReader(body)))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		status := make(chan int, 1)
		go func() {
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				status <- 0
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			status <- resp.StatusCode
		}()
		return status
	}
	first := call(one, 512<<10)
	<-ts.started
	waits := call(one, 512<<10)
	select {
	case <-ts.started:
		t.Fatal("two large bodies of one caller at once")
	case <-time.After(200 * time.Millisecond):
	}
	small, other := call(one, 1000), call(two, 512<<10)
	<-ts.started
	<-ts.started
	close(ts.release)
	<-ts.started // it had its turn
	for _, status := range []chan int{first, waits, small, other} {
		require.Equal(t, http.StatusOK, <-status)
	}
}

// TestDeclaredTooLarge: a body that says that it is too large is not waited for.
func TestDeclaredTooLarge(t *testing.T) {
	t.Parallel()
	e, err := edge.New(edge.Config{MCP: newMCP(&tools{}), MaxBody: 1000})
	require.NoError(t, err)
	t.Cleanup(e.Close)
	ln, err := edge.Listen(t.Context(), "127.0.0.1:0", false)
	require.NoError(t, err)
	srv := &http.Server{Handler: e}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", ln.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
}
