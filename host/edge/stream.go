// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ErrNoStream says that the caller's response cannot carry notifications: it is
// not of this edge, its client takes no event streams, or it has been sent.
var ErrNoStream = errors.New("the call has no open event stream")

type streamKey struct{}

func withStream(ctx context.Context, s *stream) context.Context {
	return context.WithValue(ctx, streamKey{}, s)
}

// Notify sends a notification to the caller of the call that ctx belongs to, on
// the response of that very call. mcp-go's SendNotificationToClient shares one
// queue between all requests of a session, and so loses and misroutes. Notify
// may be called concurrently until the call's handler returns.
func Notify(ctx context.Context, method string, params any) error {
	s, ok := ctx.Value(streamKey{}).(*stream)
	if !ok {
		return ErrNoStream
	}
	data, err := json.Marshal(struct {
		JSONRPC string `json:"jsonrpc"`
		Method  string `json:"method"`
		Params  any    `json:"params,omitempty"`
	}{"2.0", method, params})
	if err != nil {
		return fmt.Errorf("encode notification %s: %w", method, err)
	}
	return s.notify(data)
}

// mode is what a response has become.
type mode int

const (
	modeOpen   mode = iota // nothing was sent
	modePlain              // mcp-go answered by itself, with JSON
	modeRelay              // mcp-go answered by itself, with an event stream
	modeEvents             // we answer with an event stream; mcp-go's JSON is its last event
	modeDone               // the handler has returned
)

// stream is the response of one POST. The first notification, or the first
// keep-alive, turns it into an event stream; without either it stays the plain
// JSON that mcp-go writes. mu orders what mcp-go, the tool and the ticker write.
type stream struct {
	w http.ResponseWriter

	mu   sync.Mutex
	mode mode
	last bytes.Buffer // mcp-go's answer, in modeEvents
	// torn is set when mcp-go's events may be half written, in modeRelay.
	torn bool

	stop chan struct{}
	idle sync.WaitGroup
}

// newStream starts the keep-alive, which close joins.
func newStream(w http.ResponseWriter, every time.Duration) *stream {
	s := &stream{w: w, stop: make(chan struct{})}
	s.idle.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				s.keepAlive()
			}
		}
	})
	return s
}

// Header implements http.ResponseWriter. Only mcp-go's goroutine calls it, and
// its changes are of no effect once the event stream has begun.
func (s *stream) Header() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mode == modeEvents {
		return make(http.Header)
	}
	return s.w.Header()
}

// WriteHeader implements http.ResponseWriter.
func (s *stream) WriteHeader(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeHeaderLocked(status)
}

func (s *stream) writeHeaderLocked(status int) {
	if s.mode != modeOpen {
		return
	}
	s.mode = modePlain
	if strings.HasPrefix(s.w.Header().Get("Content-Type"), "text/event-stream") {
		s.mode = modeRelay
	}
	s.w.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mode == modeEvents {
		return s.last.Write(p)
	}
	s.writeHeaderLocked(http.StatusOK)
	s.torn = !bytes.HasSuffix(p, []byte("\n\n"))
	return s.w.Write(p)
}

// Flush implements http.Flusher; its presence tells mcp-go that it can stream.
func (s *stream) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mode != modeEvents {
		s.flushLocked()
	}
}

func (s *stream) flushLocked() {
	// A writer that cannot flush sends all at the end, which is still right.
	_ = http.NewResponseController(s.w).Flush()
}

func (s *stream) notify(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.beginLocked() {
		return ErrNoStream
	}
	if err := writeEvent(s.w, data); err != nil {
		return fmt.Errorf("send notification: %w", err)
	}
	s.flushLocked()
	return nil
}

func (s *stream) keepAlive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.beginLocked() {
		return
	}
	// The request's context ends the call when the client has gone.
	_, _ = s.w.Write([]byte(": keepalive\n\n"))
	s.flushLocked()
}

// beginLocked makes the response an event stream. It reports false when no event
// can be put into it.
func (s *stream) beginLocked() bool {
	switch s.mode {
	case modeEvents:
		return true
	case modeRelay:
		return !s.torn
	case modeOpen:
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		s.w.WriteHeader(http.StatusOK)
		s.mode = modeEvents
		return true
	default:
		return false
	}
}

// close sends mcp-go's answer as the last event. The handler has returned.
func (s *stream) close() {
	close(s.stop)
	s.idle.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mode == modeEvents && s.last.Len() > 0 {
		// An error means that the client has gone, which nobody needs to know.
		_ = writeEvent(s.w, bytes.TrimSpace(s.last.Bytes()))
		s.flushLocked()
	}
	s.mode = modeDone
}

// writeEvent writes one event of the format of server-sent events.
func writeEvent(w http.ResponseWriter, data []byte) error {
	var b bytes.Buffer
	b.WriteString("event: message\n")
	for line := range bytes.Lines(data) {
		b.WriteString("data: ")
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}
