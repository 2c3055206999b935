// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"context"
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/stretchr/testify/require"
)

// stdio starts `waggle mcp` with mcp-go's client on its streams.
func (in *Installation) stdio(t *testing.T) *client.Client {
	t.Helper()
	c := client.NewClient(transport.NewStdioWithOptions(in.Waggle, in.Env(), []string{"mcp"}, transport.WithCommandFunc(
		func(_ context.Context, command string, env, args []string) (*exec.Cmd, error) {
			cmd := exec.Command(command, args...) // ended by the client's Close
			in.prepare(cmd)
			return cmd, nil
		})))
	require.NoError(t, c.Start(t.Context()))
	t.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), serverLimit)
	defer cancel()
	_, err := c.Initialize(ctx, mcp.InitializeRequest{Params: mcp.InitializeParams{
		ProtocolVersion: "2025-11-25", ClientInfo: mcp.Implementation{Name: "test", Version: "1"},
	}})
	require.NoError(t, err)
	return c
}

func callStdio(t *testing.T, c *client.Client, tool string, args map[string]any, out any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	res, err := c.CallTool(ctx, mcp.CallToolRequest{Params: mcp.CallToolParams{Name: tool, Arguments: args}})
	require.NoError(t, err)
	require.False(t, res.IsError, "%v", res.Content)
	data, err := json.Marshal(res.StructuredContent)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, out))
}

// TestStdio: two clients that start a command share the environments, and the second
// one keeps them when the first, which was the server of both, has gone.
func TestStdio(t *testing.T) {
	in := Install(t)
	first := in.stdio(t)
	second := in.stdio(t)
	var env environment
	callStdio(t, first, "create_environment", map[string]any{"runtime": "python"}, &env)
	defer in.Command(t, "rm", env.ID)
	var ran struct {
		Stdout string `json:"stdout"`
	}
	execute := func(c *client.Client) {
		t.Helper()
		callStdio(t, c, "execute", map[string]any{"environment_id": env.ID, "code": "print(6*7)"}, &ran)
		require.Equal(t, "42\n", ran.Stdout)
	}
	execute(second)
	require.NoError(t, first.Close())
	execute(second)
	third := in.stdio(t)
	execute(third)
}
