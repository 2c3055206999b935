// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/server"
)

// maxSessions bounds the memory of clients that initialize and never come back:
// a session costs mcp-go some 13 KiB. One of whoever has most makes room.
const maxSessions = 1024

// sessions is the session id manager of mcp-go's legacy era (its interface
// SessionIdManager). All methods may be called concurrently.
type sessions struct {
	mu  sync.Mutex
	ids map[string]*session
}

// session is what the edge knows of one.
type session struct {
	// owner is the identity that it belongs to, once it is bound.
	owner string
	bound bool
	used  time.Time
	// calls are under way.
	calls int
}

func newSessions() *sessions { return &sessions{ids: make(map[string]*session)} }

// Generate makes a session for initialize. It belongs to nobody until it is bound.
func (s *sessions) Generate() string {
	id := "waggle-" + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[id] = &session{used: time.Now()}
	return id
}

// Validate reports an unknown id as terminated: the client's remedy, a new
// initialize, is the same.
func (s *sessions) Validate(id string) (isTerminated bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id] == nil, nil
}

// Terminate forgets a session. mcp-go calls it for DELETE and for idle ones.
func (s *sessions) Terminate(id string) (isNotAllowed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, id)
	return false, nil
}

// bind gives a new session to the identity that asked for it.
func (s *sessions) bind(id, identity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.ids[id]; known != nil && !known.bound {
		known.owner, known.bound = identity, true
	}
}

// enter begins a call on a session of the caller's; leave ends it. That of somebody
// else is as unknown as one that never was.
func (s *sessions) enter(id, identity string) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.ids[id]
	if known == nil || !known.bound || known.owner != identity {
		return nil, false
	}
	known.calls++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		known.calls--
		known.used = time.Now()
	}, true
}

// surplus returns a session to end when there is no room for another one, or "": of
// whoever has most of them, the one that was idle longest. full says that there is no
// room and none to be made.
func (s *sessions) surplus() (id string, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ids) < maxSessions {
		return "", false
	}
	idle := make(map[string]int)
	for _, known := range s.ids {
		if known.calls == 0 {
			idle[known.owner]++
		}
	}
	for candidate, known := range s.ids {
		if known.calls > 0 {
			continue
		}
		best := s.ids[id]
		if best == nil || idle[known.owner] > idle[best.owner] ||
			idle[known.owner] == idle[best.owner] && known.used.Before(best.used) {
			id = candidate
		}
	}
	return id, id == ""
}

// makeRoom ends an idle session when there are too many. It reports
// false when all have calls under way.
func (e *Edge) makeRoom(r *http.Request) bool {
	id, full := e.sessions.surplus()
	if id == "" {
		return !full
	}
	// mcp-go forgets what it noted of a session only when it is asked to over HTTP.
	end := r.Clone(r.Context())
	end.Method, end.Body, end.ContentLength = http.MethodDelete, http.NoBody, 0
	end.Header.Set(server.HeaderKeySessionID, id)
	e.mcp.ServeHTTP(discard{make(http.Header)}, end)
	_, _ = e.sessions.Terminate(id) // never fails
	return true
}

// discard is the writer of an answer that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// binder is the response of an initialize: the session that it names is its
// caller's from before the caller knows of it.
type binder struct {
	http.ResponseWriter
	sessions *sessions
	identity string
}

func (b binder) bind() {
	if id := b.Header().Get(server.HeaderKeySessionID); id != "" {
		b.sessions.bind(id, b.identity)
	}
}

// WriteHeader implements http.ResponseWriter.
func (b binder) WriteHeader(status int) {
	b.bind()
	b.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (b binder) Write(p []byte) (int, error) {
	b.bind()
	return b.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (b binder) Unwrap() http.ResponseWriter { return b.ResponseWriter }
