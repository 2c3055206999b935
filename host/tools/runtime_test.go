// SPDX-License-Identifier: Apache-2.0

package tools_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
)

// TestRuntimesAreOffered: a runtime that no schema names cannot be asked for.
func TestRuntimesAreOffered(t *testing.T) {
	t.Parallel()
	_, url := newServer(t, 1)
	list, _ := connect(t, url, legacy).call("tools/list", `{}`).result["tools"].([]any)
	field := map[string]string{"create_environment": "runtime", "execute": "language"}
	for _, v := range list {
		tool := v.(map[string]any)
		name, ok := field[tool["name"].(string)]
		if !ok {
			continue
		}
		delete(field, tool["name"].(string))
		properties := tool["inputSchema"].(map[string]any)["properties"].(map[string]any)
		var offered []string
		for _, e := range properties[name].(map[string]any)["enum"].([]any) {
			offered = append(offered, fmt.Sprint(e))
		}
		require.ElementsMatch(t, environment.Runtimes(), offered, "%s of %s", name, tool["name"])
	}
	require.Empty(t, field, "tools that take a runtime")
}
