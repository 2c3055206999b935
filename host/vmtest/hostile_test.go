// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	honestToken  = "a-token-of-somebody-honest"
	hostileToken = "a-token-of-somebody-hostile"
	// servedWithin is how long an honest call may take meanwhile, on a busy machine.
	servedWithin = 5 * time.Second
	// flat is how much more memory the server may have at any time than before, in bytes:
	// what one body of full length needs on its way, or the most sessions, and garbage.
	flat = 384 << 20
)

// TestHostileClients: what one caller does leaves the memory of the real server flat,
// and another caller served.
func TestHostileClients(t *testing.T) {
	in := Install(t)
	tokens := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("honest "+honestToken+"\nhostile "+hostileToken+"\n"), 0o600))
	// As many requests as they can: the limit would spare the server most of them.
	in.Settings = append(in.Settings, "WAGGLE_AUTH_TOKENS_FILE="+tokens, "WAGGLE_REQUESTS_PER_SECOND=0")
	s := in.Serve(t)
	s.Token = honestToken
	idle := s.Connect(t)
	h := &hostile{url: s.URL, addr: strings.TrimSuffix(strings.TrimPrefix(s.URL, "http://"), "/mcp")}
	before := resident(t, s.PID())
	for _, attack := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"bodies", h.bodies}, {"malformed", h.malformed}, {"sessions", h.sessions}, {"trickle", h.trickle},
	} {
		t.Run(attack.name, func(t *testing.T) {
			w := serving(t, s, s.Connect(t))
			defer w.stop()
			attack.run(t)
			served, peak := w.stop()
			t.Logf("%d honest calls served, %d MiB at most, %d before", served, peak>>20, before>>20)
			require.Positive(t, served)
			require.Less(t, peak, before+flat, "bytes of memory")
		})
	}
	idle.Do(t, "tools/list", nil, nil) // its session was not the one to make room
}

// hostile is a caller who means harm.
type hostile struct{ url, addr string }

// post sends a body and returns the status of the answer. An answer that comes before
// the body has gone may be lost with the connection: that is status 0.
func (h *hostile) post(t *testing.T, client *http.Client, body io.Reader, length int64, header map[string]string) (int, string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, body)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	req.ContentLength = length
	req.Header.Set("Authorization", "Bearer "+hostileToken)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(answer)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// bodies: 100 MiB, of a length that is known or not, many at once; and large ones
// below the limit.
func (h *hostile) bodies(t *testing.T) {
	const size = 100 << 20
	var refused atomic.Int64
	together(t, 60, 30, func(i int) {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		if i%3 == 2 {
			large := `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 15<<20) + `"}`
			if status, answer := h.post(t, client, strings.NewReader(large), -1, nil); status >= 500 && status != http.StatusServiceUnavailable {
				t.Errorf("%d: %.200s", status, answer)
			}
			return
		}
		length := int64(-1)
		if i%3 == 1 {
			length = size
		}
		status, answer := h.post(t, client, io.LimitReader(zeros{}, size), length, nil)
		switch status {
		case http.StatusRequestEntityTooLarge:
			refused.Add(1)
		case 0, http.StatusServiceUnavailable:
		default:
			t.Errorf("%d: %.200s", status, answer)
		}
	})
	require.Positive(t, refused.Load(), "no caller learned that the body is too large")
}

// malformed: nothing that is no message of the protocol is more than an error.
func (h *hostile) malformed(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"list_environments","arguments":{}}}`
	nested := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	bodies := []string{
		"", " ", "null", "true", "7", `"x"`, "{}", "[]", "[{}]", "[" + strings.Repeat(call+",", 999) + call + "]", "\xef\xbb\xbf" + call,
		"{", `{"jsonrpc":"2.0","id":1,"method":`, call + call, "\x00", "\xff\xfe{\x00}\x00", nested(100), nested(1_000_000),
		`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":` + nested(1_000_000) + `}`,
		`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"execute","arguments":{"code":` + nested(9_000) + `}}}`,
		strings.Repeat(`{"a":`, 1_000_000),
	}
	for field, values := range map[string][]string{
		`"2.0"`:               {`"1.0"`, `2.0`, `null`, `{}`},
		`:7,`:                 {`:null,`, `:{},`, `:[],`, `:true,`, `:1.5,`, `:1e400,`, `:-1e400,`, `:1e308,`, `:99999999999999999999999,`, `:"` + strings.Repeat("i", 1<<20) + `",`},
		`"tools/call"`:        {`1`, `null`, `{}`, `""`, `"tools/nothing"`, `"\ud800"`, "\"\xff\"", `"` + strings.Repeat("m", 1<<20) + `"`},
		`"list_environments"`: {`1`, `null`, `{}`, `""`, `"nothing"`, "\"\xc3\x28\"", `"\u0000"`},
		`{}}}`:                {`[]}}`, `"x"}}`, `1e999}}`, `null}}`, `{"":""}}}`, `{"x":1e400}}}`},
	} {
		for _, v := range values {
			bodies = append(bodies, strings.Replace(call, field, v, 1))
		}
	}
	for i := range len(call) {
		bodies = append(bodies, call[:i])
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	together(t, len(bodies), 8, func(i int) {
		for _, header := range []map[string]string{
			nil, {"MCP-Protocol-Version": legacyEra}, {"MCP-Protocol-Version": modernEra, "Mcp-Method": "tools/call"}, {"Mcp-Session-Id": "no-such"},
			{"MCP-Protocol-Version": "\"", "Accept": "*/*"}, {"Content-Type": "text/plain"},
		} {
			status, answer := h.post(t, client, strings.NewReader(bodies[i]), int64(len(bodies[i])), header)
			// A notification of no known kind is accepted, and heard by nobody.
			if status < 200 || status >= 500 {
				t.Errorf("%d to %.100q, %v: %.200s", status, bodies[i], header, answer)
			}
		}
	})
}

// sessions: 10,000 that nobody comes back to.
func (h *hostile) sessions(t *testing.T) {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": map[string]any{
		"protocolVersion": legacyEra, "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": strings.Repeat("n", 1000), "version": "1"},
	}})
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	together(t, 10_000, 16, func(int) {
		if status, answer := h.post(t, client, bytes.NewReader(body), int64(len(body)), nil); status != http.StatusOK {
			t.Errorf("%d: %.200s", status, answer)
		}
	})
}

// trickle: connections on which a header, or a body, comes a byte at a time for as
// long as the server bears it.
func (h *hostile) trickle(t *testing.T) {
	const header = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer "
	var ended atomic.Int64
	together(t, 600, 600, func(i int) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", h.addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		begin := header
		switch i % 3 {
		case 1:
			begin += hostileToken + "\r\nContent-Length: 1000000\r\n\r\n{"
		case 2:
			begin += "no-such-token\r\nTransfer-Encoding: chunked\r\n\r\n"
			if i%2 == 0 {
				begin = strings.Replace(begin, "localhost", "8000-env-aaaaaaaa.localhost", 1)
			}
		}
		if _, err := io.WriteString(conn, begin); err == nil && drips(conn) {
			ended.Add(1)
			return
		}
		t.Errorf("connection %d is still served", i)
	})
	require.EqualValues(t, 600, ended.Load())
}

// drips sends a byte now and then. It reports whether the server made an end of it.
func drips(conn net.Conn) bool {
	gone := make(chan struct{})
	go func() { // ended by the server, or by the deadline
		defer close(gone)
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Second))
		_, _ = io.Copy(io.Discard, conn)
	}()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < 45*time.Second; {
		select {
		case <-gone:
			return true
		case <-tick.C:
			_, _ = conn.Write([]byte("x")) // an error shows in the reader
		}
	}
	return false
}

// watcher is an honest caller, and an eye on the server's memory.
type watcher struct {
	end    func()
	wg     sync.WaitGroup
	served int
	peak   int64
}

func serving(t *testing.T, s *Server, c *Session) *watcher {
	t.Helper()
	done := make(chan struct{})
	w := &watcher{end: sync.OnceFunc(func() { close(done) })}
	w.wg.Go(func() {
		for {
			began := time.Now()
			resp, err := (&http.Client{Timeout: servedWithin}).Do(c.request(t, "tools/call", map[string]any{"name": "list_environments"}))
			if err != nil {
				t.Errorf("after %s: %v", time.Since(began), err)
			} else {
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("an honest caller got %s", resp.Status)
				}
				w.served++
			}
			w.peak = max(w.peak, resident(t, s.PID()))
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return w
}

func (w *watcher) stop() (served int, peak int64) {
	w.end()
	w.wg.Wait()
	return w.served, w.peak
}
