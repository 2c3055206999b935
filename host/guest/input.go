// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

type execStream = connect.BidiStreamForClient[guestv1.ProcessRunRequest, guestv1.ProcessRunResponse]

// input is the client's side of one exec stream. Input and sizes come from two
// goroutines, and a stream takes one sender at a time.
type input struct {
	mu     sync.Mutex
	stream *execStream
}

func (in *input) send(msg *guestv1.ProcessRunRequest) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.stream.Send(msg)
}

// start begins to send what e brings. A failure of a Send is seen by the
// receiver of the same stream. The goroutines end with ctx; one that is blocked
// in a Read of the caller's ends with that.
func (in *input) start(ctx context.Context, e Exec, fail context.CancelCauseFunc) {
	if e.Resize != nil {
		go in.resize(ctx, e.Resize)
	}
	if e.Stdin == nil {
		return
	}
	go func() {
		err := in.feed(e.Stdin)
		switch {
		case err != nil:
			fail(&localError{err})
		case e.Resize == nil:
			in.mu.Lock()
			defer in.mu.Unlock()
			_ = in.stream.CloseRequest()
		}
	}()
}

// feed copies the input to the command and closes it at the end of file. It
// returns the errors of the reader only.
func (in *input) feed(r io.Reader) error {
	buf := make([]byte, minStdin)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if in.send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Stdin{Stdin: buf[:n]}}) != nil {
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = in.send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_CloseStdin{CloseStdin: &guestv1.CloseStdin{}}})
			return nil
		case err != nil:
			return fmt.Errorf("read input: %w", err)
		case n == len(buf) && n < stdinChunk:
			buf = make([]byte, stdinChunk)
		}
	}
}

func (in *input) resize(ctx context.Context, sizes <-chan *guestv1.TerminalSize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok || in.send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Resize{Resize: size}}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
