// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/admin"
)

// get returns the status and the body of a page beside the MCP endpoint.
func get(t *testing.T, mcpURL, page string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(mcpURL, "/mcp")+page, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, string(body)
}

func statusOf(t *testing.T, c *serveCmd) (serverStatus, error) {
	t.Helper()
	var out bytes.Buffer
	err := (&statusCmd{runDirFlags: c.runDirFlags, JSON: true}).write(t.Context(), &out)
	var s serverStatus
	require.NoError(t, json.Unmarshal(out.Bytes(), &s))
	return s, err
}

// TestServeNotReady: a server without kernel lives, is not ready and says why, on
// both ways to ask; and so it does when its run directory goes.
func TestServeNotReady(t *testing.T) {
	t.Parallel()
	c := serveCommand(t, "--listen-addr", "127.0.0.1:0")
	s, err := statusOf(t, c)
	require.ErrorIs(t, err, admin.ErrNoServer)
	require.Equal(t, serverStatus{RunDir: c.RunDir}, s)

	url, stop := startServe(t, c)
	code, body := get(t, url, "/healthz")
	require.Equal(t, http.StatusOK, code, body)
	code, body = get(t, url, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	for _, line := range strings.Split(strings.TrimSpace(body), "\n") {
		require.Regexp(t, "run `|install|WAGGLE_", line, "each reason has a remedy")
	}

	s, err = statusOf(t, c)
	require.NoError(t, err)
	require.True(t, s.Running)
	require.False(t, s.Ready)
	require.Equal(t, "not ready: "+strings.Join(s.NotReady, "\n")+"\n", body)
	require.Equal(t, url, s.URL)
	require.Equal(t, os.Getpid(), s.PID)
	require.Equal(t, c.DataDir, s.DataDir)
	require.Equal(t, uint32(10), s.Max)
	require.Equal(t, &statusLimits{CPUs: 1, MemoryMiB: 512, DiskMiB: 10240, Idle: 1800, Exec: 30, MaxExec: 300, Orphan: 600}, s.Limits)
	var text bytes.Buffer
	require.NoError(t, (&statusCmd{runDirFlags: c.runDirFlags}).write(t.Context(), &text))
	require.Contains(t, text.String(), url)
	require.Contains(t, text.String(), "not ready")

	require.NoError(t, os.RemoveAll(c.RunDir))
	_, body = get(t, url, "/readyz")
	require.Contains(t, body, "was removed or replaced")
	code, _ = get(t, url, "/healthz")
	require.Equal(t, http.StatusOK, code)
	require.NoError(t, stop())
}

// TestGuestCAIsChecked: certificates that are none are named by a server that
// starts, and end a run before an image is looked for.
func TestGuestCAIsChecked(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(bad, []byte("no certificate"), 0o600))
	for name, file := range map[string]string{"no certificate": bad, "no file": bad + ".not"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serveCommand(t, "--listen-addr", "127.0.0.1:0", "--guest-ca", file)
			url, stop := startServe(t, c)
			code, body := get(t, url, "/readyz")
			require.Equal(t, http.StatusServiceUnavailable, code)
			require.Contains(t, body, "WAGGLE_GUEST_CA")
			require.Contains(t, body, caRemedy)
			s, err := statusOf(t, c)
			require.NoError(t, err)
			require.Contains(t, strings.Join(s.NotReady, "\n"), file)
			require.NoError(t, stop())

			run := runCmd{vmFlags: c.vmFlags, Image: "no/such:image", Command: []string{"true"}, Quiet: true}
			err = run.Run(t.Context())
			require.ErrorContains(t, err, "WAGGLE_GUEST_CA")
			require.NotContains(t, err.Error(), "no/such")
		})
	}
}

// TestServeTwice: the second server touches nothing, not even its own data
// directory.
func TestServeTwice(t *testing.T) {
	t.Parallel()
	first := serveCommand(t, "--listen-addr", "127.0.0.1:0")
	url, stop := startServe(t, first)
	second := serveCommand(t, "--listen-addr", "127.0.0.1:0", "--run-dir", first.RunDir)
	err := second.run(t.Context(), io.Discard, slog.New(slog.DiscardHandler))
	var held *admin.HeldError
	require.ErrorAs(t, err, &held)
	require.Equal(t, admin.HeldError{RunDir: first.RunDir, PID: os.Getpid(), URL: url}, *held)
	require.NoDirExists(t, second.DataDir)
	require.NoError(t, stop())
	_, stop = startServe(t, second)
	require.NoError(t, stop())
}

// TestServeSweeps: what killed processes left goes when a server starts, and what
// is not theirs stays.
func TestServeSweeps(t *testing.T) {
	t.Parallel()
	c := serveCommand(t, "--listen-addr", "127.0.0.1:0")
	left := []string{
		filepath.Join(c.RunDir, ".new-1", "vm.json"),
		filepath.Join(c.DataDir, "scratch", "env-aaaaaaaa.ext4"),
		filepath.Join(c.DataDir, "disks", ".building-scratch-64-v1.ext4-1"),
		filepath.Join(c.DataDir, "images", ".tmp", "blob-1"),
	}
	stays := filepath.Join(c.DataDir, "scratch", "README")
	for _, path := range append(left, stays) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	_, stop := startServe(t, c)
	for _, path := range left {
		require.NoFileExists(t, path)
	}
	require.FileExists(t, stays)
	require.NoError(t, stop())
}

func TestCheckSpace(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "not", "yet")
	require.NoError(t, checkSpace("data directory", missing, 1))
	err := checkSpace("data directory", missing, math.MaxInt64)
	require.ErrorContains(t, err, "is full")
	require.ErrorContains(t, err, "WAGGLE_DATA_DIR")
	require.ErrorContains(t, checkSpace("run directory", missing, math.MaxInt64), "WAGGLE_RUN_DIR")
	require.NoDirExists(t, missing)
}

// TestRunDirTooLong: a server says so at once, and not when the first environment
// is made, whose sockets have longer paths than the server's own.
func TestRunDirTooLong(t *testing.T) {
	t.Parallel()
	c := serveCommand(t, "--listen-addr", "127.0.0.1:0")
	c.RunDir += strings.Repeat("x", 85-len(c.RunDir))
	err := c.run(t.Context(), io.Discard, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "set WAGGLE_RUN_DIR to a directory whose path is 11 bytes shorter")
}

func TestDataDirIsNoDirectory(t *testing.T) {
	t.Parallel()
	c := serveCommand(t, "--listen-addr", "127.0.0.1:0")
	require.NoError(t, os.WriteFile(c.DataDir, nil, 0o600))
	err := c.run(t.Context(), io.Discard, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "set WAGGLE_DATA_DIR")
}
