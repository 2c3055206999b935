// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// history holds every state that the machine had, so that a slow follower
// misses none. There are at most six: phases only go forward.
type history struct {
	mu      sync.Mutex
	states  []*hostv1.State // each is immutable once it is in here
	changed chan struct{}   // closed and replaced by each change
}

func newHistory() *history {
	h := &history{changed: make(chan struct{})}
	h.add(&hostv1.State{Phase: hostv1.Phase_PHASE_STARTING})
	return h
}

// add enters a state, unless it goes backwards.
func (h *history) add(s *hostv1.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.states); n > 0 && h.states[n-1].GetPhase() >= s.GetPhase() {
		return
	}
	s.Since = timestamppb.Now()
	h.states = append(h.states, s)
	close(h.changed)
	h.changed = make(chan struct{})
}

// last returns the state now and its index.
func (h *history) last() (*hostv1.State, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.states) - 1
	return h.states[i], i
}

// at returns the state with index i, waiting for it.
func (h *history) at(ctx context.Context, i int) (*hostv1.State, error) {
	for {
		h.mu.Lock()
		changed := h.changed
		if i < len(h.states) {
			defer h.mu.Unlock()
			return h.states[i], nil
		}
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// end waits for the last state.
func (h *history) end(ctx context.Context) (*hostv1.State, error) {
	for _, i := h.last(); ; i++ {
		s, err := h.at(ctx, i)
		if err != nil || s.GetPhase() == hostv1.Phase_PHASE_ENDED {
			return s, err
		}
	}
}

// PhaseName is the name of a phase as people and records have it: "RUNNING".
func PhaseName(p hostv1.Phase) string { return strings.TrimPrefix(p.String(), "PHASE_") }

// CauseName is the name of a cause: "IDLE". Empty before the end.
func CauseName(c hostv1.EndCause) string {
	if c == hostv1.EndCause_END_CAUSE_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(c.String(), "END_CAUSE_")
}

// clean says whether an end leaves nothing behind.
func clean(c hostv1.EndCause) bool {
	return c != hostv1.EndCause_END_CAUSE_BOOT_FAILED && c != hostv1.EndCause_END_CAUSE_CRASHED
}

// holders counts who owns the machine.
type holders struct {
	mu      sync.Mutex
	names   map[int]string
	next    int
	since   time.Time     // when the last one went
	changed chan struct{} // has room for one
}

func newHolders() *holders {
	return &holders{names: map[int]string{}, since: time.Now(), changed: make(chan struct{}, 1)}
}

// add returns the function that takes the holder out again.
func (h *holders) add(name string) (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := h.next
	h.next++
	h.names[key] = name
	h.notify()
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.names, key)
		h.since = time.Now()
		h.notify()
	}
}

func (h *holders) notify() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// alone returns since when nobody holds the machine; ok is false while one does.
func (h *holders) alone() (since time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, len(h.names) == 0
}

func (h *holders) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for i := 0; i < h.next && len(names) < len(h.names); i++ {
		if name, ok := h.names[i]; ok {
			names = append(names, name)
		}
	}
	return names
}
