// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
	"github.com/stacklok/waggle/host/metrics"
)

// TestScrape reads what Prometheus would.
func TestScrape(t *testing.T) {
	t.Parallel()
	manager, err := environment.New(environment.Config{
		Launch: envtest.NewFleet(t).Launch, Holder: "test", Max: 3, CPUs: 1, MemoryMiB: 512, DiskMiB: 1024,
		Idle: 30 * time.Minute, ExecDefault: 30 * time.Second, ExecMax: 5 * time.Minute,
	})
	require.NoError(t, err)
	t.Cleanup(manager.Close)
	alice := environment.WithOwner(t.Context(), "alice")
	_, err = manager.Create(alice, environment.CreateOptions{}, nil)
	require.NoError(t, err)

	m := metrics.New(manager, "1.2.3")
	m.Call("execute")("result")
	m.Call("execute") // is still under way
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, 200, w.Code)
	for _, line := range []string{
		`waggle_build_info{version="1.2.3"} 1`,
		`waggle_environments{state="running"} 1`,
		`waggle_environments{state="failed"} 0`,
		`waggle_environments_max 3`,
		`waggle_tool_calls_in_flight{tool="execute"} 1`,
		`waggle_tool_call_duration_seconds_count{outcome="result",tool="execute"} 1`,
		`process_open_fds `,
	} {
		require.Contains(t, w.Body.String(), "\n"+line)
	}
}
