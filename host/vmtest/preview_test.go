// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPreview sees a web server of a machine by the address of expose_port.
func TestPreview(t *testing.T) {
	in := Install(t)
	session := in.Serve(t).Connect(t)
	var env environment
	session.Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	defer in.Command(t, "rm", env.ID)
	expose := func() (address string, listening bool) {
		var out struct {
			URL       string `json:"url"`
			Listening bool   `json:"listening"`
		}
		session.Call(t, "expose_port", map[string]any{"environment_id": env.ID, "port": 8000}, &out)
		return out.URL, out.Listening
	}
	address, listening := expose()
	require.False(t, listening)

	in.Command(t, "exec", "-d", "-w", "/tmp", env.ID, "--", "sh", "-c", "echo '<h1>hello</h1>' >index.html; exec python3 -m http.server --bind 127.0.0.1 8000")
	require.Eventually(t, func() bool { _, listening = expose(); return listening }, 30*time.Second, 200*time.Millisecond)
	u, err := url.Parse(address)
	require.NoError(t, err)
	require.Equal(t, "8000-"+env.ID+".localhost", u.Hostname())
	// Resolvers of programs may not know that *.localhost is this machine; browsers do.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+u.Port()+"/", nil)
	require.NoError(t, err)
	req.Host = u.Host
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "<h1>hello</h1>\n", string(text))
	require.Contains(t, resp.Header.Get("Server"), "Python")
}
