// SPDX-License-Identifier: Apache-2.0

package mcptest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
	"github.com/stacklok/waggle/host/mcptest"
)

// TestProgressOfClients: 300 notifications over 4 concurrent calls of one official
// client arrive, in order, each on its own call.
func TestProgressOfClients(t *testing.T) {
	t.Parallel()
	clients := mcptest.Find(t)
	s := product(t)
	addFixtures(s)
	url := serve(t, edge.Config{MCP: s})
	for _, era := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(era, func(t *testing.T) {
			t.Parallel()
			out := mcptest.Run(t, clients.Script(t, "count.mjs", url, era))
			require.Equal(t, era+": 300 notifications on 4 calls\n", out)
		})
	}
}
