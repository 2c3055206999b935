// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"math"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// limits hold back a caller who would leave nothing for others. Each identity has its
// own; without tokens all callers are one. There are as many as identities.
type limits struct {
	perSecond float64 // zero: no limit
	calls     int     // zero: no limit
	bodies    int64   // bytes of large bodies

	mu      sync.Mutex
	callers map[string]*caller
}

type caller struct {
	rate   *rate.Limiter
	calls  int
	bodies *semaphore.Weighted
}

func newLimits(perSecond float64, calls int, bodies int64) *limits {
	return &limits{perSecond: perSecond, calls: calls, bodies: bodies, callers: make(map[string]*caller)}
}

// callerLocked finds or makes what is known of an identity.
func (l *limits) callerLocked(identity string) *caller {
	c := l.callers[identity]
	if c == nil {
		c = &caller{rate: rate.NewLimiter(rate.Inf, 0), bodies: semaphore.NewWeighted(l.bodies)}
		if l.perSecond > 0 {
			// Twice a second's worth at once: clients begin with a burst.
			c.rate = rate.NewLimiter(rate.Limit(l.perSecond), int(math.Ceil(2*l.perSecond)))
		}
		l.callers[identity] = c
	}
	return c
}

// enter begins a request of an identity. The text says why it may not, and after how
// many seconds it may be tried again.
func (l *limits) enter(identity string) (leave func(), text string, retry int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.callerLocked(identity)
	if l.calls > 0 && c.calls >= l.calls {
		return nil, "too many calls at once: " + strconv.Itoa(c.calls) + " are under way, wait until one has ended", 1
	}
	if !c.rate.Allow() {
		return nil, "too many requests: at most " + strconv.FormatFloat(l.perSecond, 'g', -1, 64) + " a second", 1
	}
	c.calls++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.calls--
	}, "", 0
}

// limited serves a request within the limits of its caller.
func (e *Edge) limited(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		leave, text, retry := e.limits.enter(Identity(r.Context()))
		if leave == nil {
			w.Header().Set("Retry-After", strconv.Itoa(retry))
			http.Error(w, text, http.StatusTooManyRequests)
			return
		}
		defer leave()
		next(w, r)
	}
}
