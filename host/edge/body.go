// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// smallBody is what every body may have at once, in bytes. Those of all calls that one
// identity may have are not much. Larger ones of an identity share the length of the
// largest, since each is copied several times on its way to a tool.
const smallBody = 256 << 10

// readBody reads a body within its limits. release gives back what it takes of its
// caller's share, when the call has ended. The deadline ends before the call begins: a
// read deadline that passes during a call would cancel it.
func (e *Edge) readBody(w http.ResponseWriter, r *http.Request) (body []byte, release func(), ok bool) {
	if r.ContentLength > e.cfg.MaxBody {
		e.refuseBody(w, r, &http.MaxBytesError{Limit: e.cfg.MaxBody})
		return nil, nil, false
	}
	rest := http.MaxBytesReader(w, r.Body, e.cfg.MaxBody)
	var buf bytes.Buffer
	release = func() {}
	bodyDue(w, time.Now().Add(bodyDeadline))
	_, err := io.CopyN(&buf, rest, smallBody)
	if err == nil {
		size := e.cfg.MaxBody
		if r.ContentLength > 0 {
			size = r.ContentLength
			buf.Grow(int(size) - buf.Len() + bytes.MinRead)
		}
		if release, err = e.limits.takeBody(r.Context(), Identity(r.Context()), size); err == nil {
			bodyDue(w, time.Now().Add(bodyDeadline))
			_, err = io.Copy(&buf, rest)
		}
	}
	bodyDue(w, time.Time{})
	if err != nil && !errors.Is(err, io.EOF) {
		release()
		e.refuseBody(w, r, err)
		return nil, nil, false
	}
	return buf.Bytes(), release, true
}

// bodyDue sets the time at which a body must have arrived. Writers of tests have no
// deadlines; then none is needed.
func bodyDue(w http.ResponseWriter, at time.Time) {
	_ = http.NewResponseController(w).SetReadDeadline(at)
}

// refuseBody says why a body was not read to its end.
func (e *Edge) refuseBody(w http.ResponseWriter, r *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		http.Error(w, fmt.Sprintf("the request is larger than %d bytes: write large files in pieces, or fetch them from inside the environment",
			tooLarge.Limit), http.StatusRequestEntityTooLarge)
	case errors.Is(err, errBodies):
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many large requests at once: wait until one has ended", http.StatusTooManyRequests)
	default:
		e.log.Info("request body did not arrive", "error", err, "remote", r.RemoteAddr)
		http.Error(w, "the request body did not arrive", http.StatusBadRequest)
	}
}

// errBodies says that a caller's share of large bodies stayed taken.
var errBodies = errors.New("too many large bodies")

// takeBody waits for a share of so many bytes.
func (l *limits) takeBody(ctx context.Context, identity string, size int64) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, bodyDeadline)
	defer cancel()
	l.mu.Lock()
	bodies := l.callerLocked(identity).bodies
	l.mu.Unlock()
	if err := bodies.Acquire(ctx, size); err != nil {
		return func() {}, errBodies
	}
	return func() { bodies.Release(size) }, nil
}
