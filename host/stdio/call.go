// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"github.com/tmaxmax/go-sse"
)

const (
	// startLimit is how long a server may take that is starting.
	startLimit = 30 * time.Second
	startPause = 100 * time.Millisecond
)

// session is what a client of the older era has agreed on with the server.
type session struct {
	id, version string
	// initialize is the request, for a server that was restarted.
	initialize []byte
}

// call posts one message and writes what comes back. The end of ctx ends it without an
// answer.
func (b *Bridge) call(ctx context.Context, msg envelope, body []byte) {
	resp, err := b.deliver(ctx, msg, body)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		err = b.answer(msg, body, resp)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	b.Log.Warn("request failed", "method", msg.Method, "error", err)
	if len(msg.ID) > 0 {
		b.refuse(msg.ID, -32603, err.Error())
	}
}

// deliver posts a message, with the session begun anew when the server does not know
// it any more, and again while the server is starting.
func (b *Bridge) deliver(ctx context.Context, msg envelope, body []byte) (*http.Response, error) {
	renewed := false
	for began := time.Now(); ; {
		resp, err := b.post(ctx, msg, body)
		if err != nil {
			return nil, err
		}
		switch {
		case resp.StatusCode == http.StatusNotFound && !renewed && b.renewable(msg):
			_ = resp.Body.Close()
			if err := b.renew(ctx); err != nil {
				return nil, err
			}
			renewed = true
		case resp.StatusCode == http.StatusServiceUnavailable && time.Since(began) < startLimit:
			_ = resp.Body.Close()
			select {
			case <-time.After(startPause):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		default:
			return resp, nil
		}
	}
}

func (b *Bridge) post(ctx context.Context, msg envelope, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.Endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if version := modern(msg); version != "" {
		req.Header.Set(mcp.HeaderProtocolVersion, version)
		req.Header.Set("Mcp-Method", msg.Method)
		if name := msg.Params.Name + msg.Params.URI; name != "" {
			req.Header.Set("Mcp-Name", name)
		}
	} else if msg.Method != string(mcp.MethodInitialize) {
		b.mu.Lock()
		id, version := b.session.id, b.session.version
		b.mu.Unlock()
		if id != "" {
			req.Header.Set(server.HeaderKeySessionID, id)
			req.Header.Set(mcp.HeaderProtocolVersion, version)
		}
	}
	resp, err := b.HTTP.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("reach the server: %w", err)
	}
	return resp, nil
}

// modern is the version that a message of the newer era names, or "".
func modern(msg envelope) string {
	var version string
	_ = json.Unmarshal(msg.Params.Meta[mcp.MetaKeyProtocolVersion], &version) // no string is no version
	if mcp.IsModernProtocol(version) {
		return version
	}
	return ""
}

// answer writes the messages of a response.
func (b *Bridge) answer(msg envelope, body []byte, resp *http.Response) error {
	kind := resp.Header.Get("Content-Type")
	switch {
	case strings.HasPrefix(kind, "text/event-stream"):
		b.begun(msg, body, resp, nil)
		for event, err := range sse.Read(resp.Body, &sse.ReadConfig{MaxEventSize: maxAnswer}) {
			if err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			b.write([]byte(event.Data))
		}
		return nil
	case strings.HasPrefix(kind, "application/json"):
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		b.begun(msg, body, resp, data)
		b.write(data)
		return nil
	case resp.StatusCode < http.StatusMultipleChoices: // of a notification
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return errors.Join(fmt.Errorf("the server answers %s: %s", resp.Status, bytes.TrimSpace(text)), err)
}

// begun notes the session that an initialize has begun.
func (b *Bridge) begun(msg envelope, body []byte, resp *http.Response, answer []byte) {
	id := resp.Header.Get(server.HeaderKeySessionID)
	if msg.Method != string(mcp.MethodInitialize) || id == "" {
		return
	}
	var agreed struct {
		Result struct {
			ProtocolVersion string `json:"protocolVersion"`
		} `json:"result"`
	}
	_ = json.Unmarshal(answer, &agreed) // no version: the server takes none as well
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session = session{id, agreed.Result.ProtocolVersion, body}
}

func (b *Bridge) renewable(msg envelope) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.session.id != "" && modern(msg) == "" && msg.Method != string(mcp.MethodInitialize)
}

// renew begins the session again with the client's own words.
func (b *Bridge) renew(ctx context.Context) error {
	b.mu.Lock()
	first := b.session.initialize
	b.mu.Unlock()
	msg := envelope{Method: string(mcp.MethodInitialize)}
	resp, err := b.post(ctx, msg, first)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("begin the session again: %s: %w", resp.Status, err)
	}
	b.begun(msg, first, resp, data)
	b.Log.Info("the server was restarted: the session goes on")
	return nil
}
