// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
)

const (
	// maxLine bounds a message of the client in bytes, as the edge bounds a body.
	maxLine = 16 << 20
	// maxAnswer bounds one of the server's: a file that is read comes as base64, and
	// as text and as structure.
	maxAnswer = 64 << 20
	// maxCalls is how many requests may be under way. More are refused: the reader
	// must not stop, or nothing could be cancelled.
	maxCalls = 256
)

// Bridge is one client on a pair of streams.
type Bridge struct {
	// Endpoint is the URL that messages are posted to.
	Endpoint string
	// HTTP reaches it.
	HTTP http.RoundTripper
	// Log must not write to the client's stream. May be nil.
	Log *slog.Logger

	out   io.Writer
	calls sync.WaitGroup

	mu      sync.Mutex // guards what follows, and writes to out
	broken  error      // of out
	running map[string]context.CancelFunc
	session session
}

// Run carries messages until the client closes in and all its requests are answered,
// or until ctx ends, which cuts them. It returns nil after either, and an error when
// out breaks.
func (b *Bridge) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	if b.Log == nil {
		b.Log = slog.New(slog.DiscardHandler)
	}
	b.out, b.running = out, make(map[string]context.CancelFunc)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan []byte)
	ended := make(chan error, 1)
	go func() { ended <- read(ctx, in, lines) }()
	for {
		select {
		case line := <-lines:
			b.take(ctx, cancel, line)
		case err := <-ended: // a blocked read ends with the process only
			b.calls.Wait()
			return errors.Join(err, b.brokenOut())
		case <-ctx.Done():
			b.calls.Wait()
			return b.brokenOut()
		}
	}
}

func (b *Bridge) brokenOut() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broken
}

// read hands out the lines of in. One that is too long comes as nil.
func read(ctx context.Context, in io.Reader, lines chan<- []byte) error {
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := readLine(r)
		if len(bytes.TrimSpace(line)) > 0 || (line == nil && err == nil) {
			select {
			case lines <- line:
			case <-ctx.Done():
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
	}
}

func readLine(r *bufio.Reader) ([]byte, error) {
	line := []byte{}
	for {
		part, err := r.ReadSlice('\n')
		if line != nil {
			line = append(line, part...)
		}
		if len(line) > maxLine {
			line = nil // the rest of it is passed over
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// envelope is what the bridge reads of a message.
type envelope struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		RequestID json.RawMessage            `json:"requestId"`
		Name      string                     `json:"name"`
		URI       string                     `json:"uri"`
		Meta      map[string]json.RawMessage `json:"_meta"`
	} `json:"params"`
}

func (b *Bridge) take(ctx context.Context, fail context.CancelFunc, line []byte) {
	var msg envelope
	if line == nil {
		b.refuse(nil, -32600, fmt.Sprintf("the message is longer than %d bytes: write large files in pieces", maxLine))
		return
	}
	if err := json.Unmarshal(line, &msg); err != nil {
		b.refuse(nil, -32700, "the line is no JSON-RPC message: "+err.Error())
		return
	}
	if msg.Method == "notifications/cancelled" {
		b.cancel(string(msg.Params.RequestID))
		return
	}
	b.mu.Lock()
	full := len(b.running) >= maxCalls
	_, twice := b.running[string(msg.ID)]
	b.mu.Unlock()
	if len(msg.ID) > 0 && (full || twice) {
		b.refuse(msg.ID, -32600, fmt.Sprintf("%d requests are under way, or one of this id is", maxCalls))
		return
	}
	callCtx, cancel := context.WithCancel(ctx)
	if len(msg.ID) > 0 {
		b.mu.Lock()
		b.running[string(msg.ID)] = cancel
		b.mu.Unlock()
	}
	b.calls.Go(func() {
		defer cancel()
		b.call(callCtx, msg, line)
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.running, string(msg.ID))
		if b.broken != nil { // nobody reads any more
			fail()
		}
	})
}

// cancel ends a request. As the specification wants it, no answer follows.
func (b *Bridge) cancel(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if end := b.running[id]; end != nil {
		end()
	}
}

// refuse answers in the server's place.
func (b *Bridge) refuse(id json.RawMessage, code int, text string) {
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	answer, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": code, "message": text},
	})
	if err != nil {
		b.Log.Error("answer is not sent", "error", err)
		return
	}
	b.write(answer)
}

// write sends one message as one line.
func (b *Bridge) write(message []byte) {
	var line bytes.Buffer
	if err := json.Compact(&line, message); err != nil {
		b.Log.Error("the server's message is no JSON", "error", err)
		return
	}
	line.WriteByte('\n')
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken == nil {
		if _, err := b.out.Write(line.Bytes()); err != nil {
			b.broken = fmt.Errorf("write message: %w", err)
		}
	}
}
