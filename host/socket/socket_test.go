// SPDX-License-Identifier: Apache-2.0

package socket_test

import (
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/socket"
)

// TestServe makes a call over a real socket, which is its owner's alone and goes
// with the server.
func TestServe(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sk") // short: it holds a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.Remove(dir), "nothing is left") })
	l, err := socket.Listen(dir, "a.sock")
	require.NoError(t, err)
	path := filepath.Join(dir, "a.sock")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	s := socket.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}), slog.New(slog.DiscardHandler))
	transport := socket.Transport(path)
	defer transport.CloseIdleConnections()
	get := func() (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://any/", nil)
		require.NoError(t, err)
		return transport.RoundTrip(req)
	}
	resp, err := get()
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "HTTP/2.0", string(body))

	s.Close(time.Second)
	_, err = get()
	require.Error(t, err)
}

func TestCheckPath(t *testing.T) {
	t.Parallel()
	require.NoError(t, socket.CheckPath(strings.Repeat("x", 103)))
	require.ErrorContains(t, socket.CheckPath(strings.Repeat("x", 110)), "7 bytes shorter")
	_, err := socket.Listen("/"+strings.Repeat("x", 110), "a.sock")
	require.ErrorContains(t, err, "WAGGLE_RUN_DIR")
}
