// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

const headerProtocol = mcp.HeaderProtocolVersion

// envelope is what the edge reads of a message; mcp-go reads the rest.
type envelope struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Meta map[string]json.RawMessage `json:"_meta"`
	} `json:"params"`
}

// servePost guards one message and hands it to mcp-go with a writer of its own.
func (e *Edge) servePost(w http.ResponseWriter, r *http.Request) {
	body, release, ok := e.readBody(w, r)
	if !ok {
		return
	}
	defer release()
	// A message that does not parse is refused by mcp-go, in JSON-RPC's words.
	var msg envelope
	_ = json.Unmarshal(body, &msg)

	id := r.Header.Get(server.HeaderKeySessionID)
	modern := isModern(r.Header.Get(headerProtocol), metaVersion(msg.Params.Meta))
	if number := tooLarge(body); number != "" {
		status := http.StatusOK // as mcp-go answers in each era
		if modern {
			status = http.StatusBadRequest
		}
		e.refuseNumber(w, msg.ID, number, status)
		return
	}
	if msg.Method == "notifications/cancelled" && (modern || id == "") {
		// mcp-go keys calls in flight by session id, which is empty here: one
		// client could end another's call. In the newer era a client cancels by
		// closing the response; a client without a session cannot cancel.
		w.WriteHeader(http.StatusAccepted)
		return
	}
	r = r.Clone(r.Context())
	w, leave, ok := e.session(w, r, modern, msg.Method == string(mcp.MethodInitialize))
	if !ok {
		return
	}
	defer leave()
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))

	if !acceptsStream(r) {
		e.mcp.ServeHTTP(w, r)
		return
	}
	s := newStream(w, e.cfg.KeepAlive)
	defer s.close()
	e.mcp.ServeHTTP(s, r.WithContext(withStream(r.Context(), s)))
}

// session finds the session of a message, makes one for a message that has none, and
// sees to it that a new one is its caller's. leave ends the message's part in it. Where
// it reports false, the message is answered.
func (e *Edge) session(
	w http.ResponseWriter, r *http.Request, modern, initialize bool,
) (out http.ResponseWriter, leave func(), ok bool) {
	identity := Identity(r.Context())
	id := r.Header.Get(server.HeaderKeySessionID)
	switch {
	case modern: // has no sessions
		return w, func() {}, true
	case initialize:
		if !e.makeRoom(r) {
			http.Error(w, "too many sessions, all of them with calls under way: try again later", http.StatusServiceUnavailable)
			return nil, nil, false
		}
		return binder{w, e.sessions, identity}, func() {}, true
	case id == "":
		// A session for this one request: nothing can be sent to it, and no one
		// else knows its id. mcp-go's sweeper forgets what it noted.
		once := e.sessions.Generate()
		r.Header.Set(server.HeaderKeySessionID, once)
		return w, func() { _, _ = e.sessions.Terminate(once) }, true
	}
	if leave, ok = e.sessions.enter(id, identity); !ok {
		http.Error(w, "unknown session: send initialize again", http.StatusNotFound)
	}
	return w, leave, ok
}

// metaVersion returns the protocol version that a message names in _meta.
func metaVersion(m map[string]json.RawMessage) string {
	var v string
	// A value of another type is no version; mcp-go then says so.
	_ = json.Unmarshal(m[mcp.MetaKeyProtocolVersion], &v)
	return v
}

// isModern follows mcp-go: a message belongs to the newer era when either place
// names one of its versions.
func isModern(header, meta string) bool {
	return mcp.IsModernProtocol(header) || mcp.IsModernProtocol(meta)
}

func acceptsStream(r *http.Request) bool {
	for _, v := range r.Header.Values("Accept") {
		if strings.Contains(v, "text/event-stream") {
			return true
		}
	}
	return false
}
