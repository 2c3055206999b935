// SPDX-License-Identifier: Apache-2.0

package mcptest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
	"github.com/stacklok/waggle/host/tools"
)

// grace is what calls get when a server of a test ends.
const grace = 5 * time.Second

// product is what `waggle serve` serves, with machines that are played.
func product(t testing.TB) edge.Config {
	t.Helper()
	m, err := environment.New(environment.Config{
		Launch: envtest.NewFleet(t).Launch, Holder: "test", Max: 10, CPUs: 1, MemoryMiB: 512, DiskMiB: 1024,
		Idle: 30 * time.Minute, ExecDefault: 30 * time.Second, ExecMax: 5 * time.Minute,
	})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	s, err := tools.New(tools.Config{Manager: m, Notify: edge.Notify, Preview: edge.PreviewURL, Version: "test"})
	require.NoError(t, err)
	return edge.Config{MCP: s, Dial: m.Dial}
}

// serve serves on the very edge that `waggle serve` has, and returns its URL.
func serve(t testing.TB, cfg edge.Config) string {
	t.Helper()
	e, err := edge.New(cfg)
	require.NoError(t, err)
	ln, err := edge.Listen(t.Context(), "127.0.0.1:0", cfg.Tokens != nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(ctx, ln, grace) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return "http://" + ln.Addr().String() + "/mcp"
}
