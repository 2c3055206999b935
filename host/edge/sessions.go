// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"crypto/rand"
	"sync"
)

// maxSessions bounds the memory of clients that initialize and never come back:
// a session costs mcp-go some 13 KiB.
const maxSessions = 4096

// sessions is the session id manager of mcp-go's legacy era (its interface
// SessionIdManager). All methods may be called concurrently.
type sessions struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

func newSessions() *sessions { return &sessions{ids: make(map[string]struct{})} }

// Generate makes a session for initialize.
func (s *sessions) Generate() string {
	id := "waggle-" + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[id] = struct{}{}
	return id
}

// Validate reports an unknown id as terminated: the client's remedy, a new
// initialize, is the same.
func (s *sessions) Validate(id string) (isTerminated bool, err error) {
	return !s.known(id), nil
}

// Terminate forgets a session. mcp-go calls it for DELETE and for idle ones.
func (s *sessions) Terminate(id string) (isNotAllowed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, id)
	return false, nil
}

func (s *sessions) known(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.ids[id]
	return ok
}

func (s *sessions) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids) >= maxSessions
}
