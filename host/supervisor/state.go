// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// maxStates bounds what is remembered. Phases only go forward, but a machine may
// be paused any number of times.
const maxStates = 16

// history holds the states that the machine had, so that a slow follower misses
// none of the last maxStates.
type history struct {
	mu      sync.Mutex
	states  []*hostv1.State // each is immutable once it is in here
	base    int             // index of the first of states
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
	if n := len(h.states); n > 0 {
		last := h.states[n-1]
		if last.GetPhase() > s.GetPhase() || last.GetPhase() == s.GetPhase() && last.GetPaused() == s.GetPaused() {
			return
		}
	}
	s.Since = timestamppb.Now()
	h.states = append(h.states, s)
	if len(h.states) > maxStates {
		h.states = slices.Delete(h.states, 0, 1)
		h.base++
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// last returns the state now and its index.
func (h *history) last() (*hostv1.State, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.states) - 1
	return h.states[i], h.base + i
}

// at returns the state with index i, waiting for it, or the first after it that is
// remembered, and the index of the next.
func (h *history) at(ctx context.Context, i int) (s *hostv1.State, next int, err error) {
	for {
		h.mu.Lock()
		changed := h.changed
		i = max(i, h.base)
		if i < h.base+len(h.states) {
			defer h.mu.Unlock()
			return h.states[i-h.base], i + 1, nil
		}
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, i, ctx.Err()
		}
	}
}

// end waits for the last state.
func (h *history) end(ctx context.Context) (*hostv1.State, error) {
	_, i := h.last()
	for {
		var s *hostv1.State
		var err error
		s, i, err = h.at(ctx, i)
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
