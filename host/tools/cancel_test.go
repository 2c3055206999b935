// SPDX-License-Identifier: Apache-2.0

package tools_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCallerLeaves: each way in which a caller gives up a call ends the execution, and
// leaves the environment and what runs in the background.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		era, how string
		leave    func(c *client, hangUp func())
	}{
		{legacy, "notifications/cancelled", func(c *client, _ func()) { c.cancelled(7) }},
		{legacy, "hangs up", func(_ *client, hangUp func()) { hangUp() }},
		{modern, "hangs up", func(_ *client, hangUp func()) { hangUp() }},
	} {
		t.Run(tc.era+" "+tc.how, func(t *testing.T) {
			t.Parallel()
			_, url := newServer(t, 1)
			c := connect(t, url, tc.era)
			id := c.tool("create_environment", args{"runtime": "shell"}).out()["environment_id"].(string)
			c.tool("execute", args{"environment_id": id, "execution_id": "bg", "background": true, "code": "sleep 60"})
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			over := make(chan error, 1)
			go func() {
				over <- c.send(ctx, 7, fmt.Sprintf(`{"name":"execute","arguments":{"environment_id":%q,"execution_id":"fg","code":"echo on; sleep 60"}}`, id))
			}()
			get := func(execution string) reply {
				return c.try("get_execution", args{"environment_id": id, "execution_id": execution, "wait_seconds": 10})
			}
			require.Eventually(t, func() bool {
				r := c.try("get_execution", args{"environment_id": id, "execution_id": "fg"})
				return !r.isError() && r.out()["stdout"] == "on\n"
			}, patience, pause)
			tc.leave(c, hangUp)
			<-over
			var r reply
			require.Eventually(t, func() bool {
				r = get("fg")
				return r.out()["state"] == "exited"
			}, patience, pause)
			require.Equal(t, true, r.out()["cancelled"])
			require.Equal(t, "on\n", r.out()["stdout"])
			require.Equal(t, "running", c.tool("get_execution", args{"environment_id": id, "execution_id": "bg"}).out()["state"])
			require.Equal(t, "42\n", c.tool("execute", args{"environment_id": id, "code": "echo 42"}).out()["stdout"])
			c.tool("cancel_execution", args{"environment_id": id, "execution_id": "bg"})
		})
	}
}

// send calls a tool under an id, and reads the answer to its end.
func (c *client) send(ctx context.Context, id int, params string) error {
	meta := ""
	if c.era == modern {
		meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}},`
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{%s%s}`, id, meta, params[1:])
	return c.post(ctx, body, "tools/call", "execute")
}

// cancelled tells the server that a call is given up.
func (c *client) cancelled(id int) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, id)
	require.NoError(c.t, c.post(c.t.Context(), body, "notifications/cancelled", ""))
}

func (c *client) post(ctx context.Context, body, method, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("MCP-Protocol-Version", c.era)
	if c.era == modern {
		req.Header.Set("Mcp-Method", method)
		req.Header.Set("Mcp-Name", name)
	} else {
		req.Header.Set("Mcp-Session-Id", c.session)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
