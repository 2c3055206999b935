// SPDX-License-Identifier: Apache-2.0

package mcptest_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/mcptest"
)

// suiteLimit turns a suite that hangs into a failure.
const suiteLimit = 3 * time.Minute

// The conformance suite, in its newest release and in the one to come.
const (
	suite2025 = "conformance-2025/dist/index.js"
	suite2026 = "conformance-2026/dist/index.js"
)

var passedLine = regexp.MustCompile(`(?m)(?:Total: |Passed: )(\d+)`)

// TestConformance runs the suite against the edge and the product's tools, with the
// fixtures beside them. What may fail is in testdata/expected-failures.yaml; an entry
// that passes fails the suite.
func TestConformance(t *testing.T) {
	t.Parallel()
	clients := mcptest.Find(t)
	for name, suite := range map[string]struct {
		least int // that pass
		args  []string
	}{
		"suite of 2025-11-25": {39, []string{suite2025, "server"}},
		"2025-11-25":          {79, []string{suite2026, "server", "--requirements", "2025-11-25"}},
		"2026-07-28":          {150, []string{suite2026, "server", "--requirements", "2026-07-28", "--expected-failures", baseline(t)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := product(t)
			addFixtures(p.MCP)
			out := run(t, clients, serve(t, p), suite.args)
			require.GreaterOrEqual(t, passed(t, out), suite.least, "the suite did not run what it should: %s", out)
		})
	}
}

// TestConformanceOfProduct runs what needs no fixture against the tools alone: what
// they claim, and nothing that only a fixture would have.
func TestConformanceOfProduct(t *testing.T) {
	t.Parallel()
	clients := mcptest.Find(t)
	url := serve(t, product(t))
	for _, scenario := range []string{
		"server-initialize", "server-session-lifecycle", "ping", "tools-list", "server-sse-multiple-streams", "dns-rebinding-protection",
	} {
		t.Run(scenario, func(t *testing.T) {
			out := run(t, clients, url, []string{suite2026, "server", "--scenario", scenario, "--spec-version", "2025-11-25"})
			require.Positive(t, passed(t, out), out)
		})
	}
}

// run runs a suite. Its words are the test's when it fails.
func run(t *testing.T, clients *mcptest.Clients, url string, suite []string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), suiteLimit)
	defer cancel()
	results := t.TempDir()
	t.Cleanup(func() {
		if t.Failed() {
			logChecks(t, results)
		}
	})
	args := append(suite[1:len(suite):len(suite)], "--url", url, "--output-dir", results)
	return mcptest.Run(t, clients.Module(ctx, suite[0], args...))
}

// logChecks logs what did not pass, which the suite's summary only counts.
func logChecks(t *testing.T, results string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(results, "*", "checks.json"))
	require.NoError(t, err)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		require.NoError(t, err)
		var checks []struct {
			ID, Status, ErrorMessage string
			Details                  json.RawMessage
		}
		require.NoError(t, json.Unmarshal(raw, &checks))
		for _, c := range checks {
			if c.Status == "FAILURE" || c.Status == "WARNING" {
				t.Logf("%s: %s %s: %s %.2000s", filepath.Base(filepath.Dir(f)), c.Status, c.ID, c.ErrorMessage, c.Details)
			}
		}
	}
}

func baseline(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "expected-failures.yaml"))
	require.NoError(t, err)
	return path
}

// passed is how many checks the suite says have passed.
func passed(t *testing.T, out string) (n int) {
	t.Helper()
	for _, m := range passedLine.FindAllStringSubmatch(out, -1) {
		k, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		n = max(n, k)
	}
	return n
}
