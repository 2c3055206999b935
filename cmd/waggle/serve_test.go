// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// serveCommand parses a command line, defaults included, in directories of its
// own.
func serveCommand(t *testing.T, args ...string) *serveCmd {
	t.Helper()
	// Not t.TempDir: sockets lie below it.
	dir, err := os.MkdirTemp("", "ws")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// The agent is looked for, but no machine is started.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "guestd-linux-"+runtime.GOARCH), nil, 0o755))
	c, err := parseServe(t, dir, args...)
	require.NoError(t, err)
	return c
}

// parseServe is what the command line with all of its directories in dir gives.
func parseServe(t *testing.T, dir string, args ...string) (*serveCmd, error) {
	t.Helper()
	var c struct {
		Serve serveCmd `cmd:""`
	}
	parser, err := kong.New(&c)
	require.NoError(t, err)
	_, err = parser.Parse(append([]string{
		"serve", "--data-dir", filepath.Join(dir, "data"), "--run-dir", filepath.Join(dir, "run"), "--guestd-dir", dir,
	}, args...))
	return &c.Serve, err
}

// startServe returns the URL of a server in this process, when it takes calls,
// and what ends it.
func startServe(t *testing.T, c *serveCmd) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- c.run(ctx, w, slog.New(slog.DiscardHandler))
		_ = w.Close()
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("the server ended: %v", stop())
	}
	_, url, found := strings.Cut(strings.TrimSpace(line), "serves MCP at ")
	require.True(t, found, line)
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return url, stop
}

func TestServe(t *testing.T) {
	t.Parallel()
	c := serveCommand(t, "--listen-addr", "127.0.0.1:0")
	require.Equal(t, 10, c.MaxEnvironments)
	require.Equal(t, 30*time.Second, c.DefaultExecTimeout)
	require.Equal(t, 5*time.Minute, c.MaxExecTimeout)
	url, stop := startServe(t, c)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Contains(t, string(body), "create_environment")
	require.NoError(t, stop())
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		flag, value string
		want        []string
	}{
		{"--listen-addr", "0.0.0.0:8080", []string{"WAGGLE_LISTEN_ADDR", "not loopback"}},
		{"--listen-addr", "8080", []string{"WAGGLE_LISTEN_ADDR", "host:port"}},
		{"--max-environments", "0", []string{"WAGGLE_MAX_ENVIRONMENTS", "give 1 to"}},
		{"--default-timeout-min", "0", []string{"WAGGLE_DEFAULT_TIMEOUT_MIN", "give 1 to"}},
		{"--default-exec-timeout", "10m", []string{"WAGGLE_DEFAULT_EXEC_TIMEOUT", "WAGGLE_MAX_EXEC_TIMEOUT", "raise the one or lower the other"}},
		{"--orphan-timeout", "0s", []string{"WAGGLE_ORPHAN_TIMEOUT", "give 1s to"}},
		{"--memory-mb", "1", []string{"WAGGLE_DEFAULT_MEMORY_MB", "give "}},
		{"--cpus", "0", []string{"WAGGLE_DEFAULT_CPUS", "give 1 to"}},
		{"--memory-mb", "16777216", []string{"WAGGLE_DEFAULT_MEMORY_MB", "all the memory of this host"}},
		{"--image-python", "UPPER CASE", []string{"WAGGLE_IMAGE_PYTHON"}},
	} {
		t.Run(tc.flag+" "+tc.value, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := parseServe(t, dir, tc.flag, tc.value)
			for _, want := range append(tc.want, tc.flag) {
				require.ErrorContains(t, err, want)
			}
			made, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, made, "refused, but something was made")
		})
	}
}
