// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// hangUpLimit turns a call that cannot be cancelled into a failure.
const hangUpLimit = 10 * time.Second

// TestHangUp cancels a command that is silent while its input is open and silent
// too, as an idle shell is. guestd must see a broken stream, never a closed input.
func TestHangUp(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	c, _ := serve(t, &fake{run: func(_ context.Context, s *runStream) error {
		for {
			req, err := s.Receive()
			if req.GetCloseStdin() != nil {
				err = errors.New("the input was closed")
			}
			if req.GetStart() != nil {
				err = s.Send(started())
			}
			if err != nil {
				ended <- err
				return err
			}
		}
	}})
	idle, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	runCtx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("left")
	result := make(chan error, 1)
	go func() {
		_, err := c.Run(runCtx, guest.Exec{
			Start: command, Stdin: idle, Resize: make(chan *guestv1.TerminalSize),
			// Later, when Run waits for the next answer: a call that is about to look
			// at its context can always be cancelled.
			Started: func(*guestv1.Started) { time.AfterFunc(100*time.Millisecond, func() { cancel(left) }) },
		})
		result <- err
	}()
	require.ErrorIs(t, within(t, result), left)
	err := within(t, ended)
	require.Error(t, err)
	require.NotErrorIs(t, err, io.EOF, "the end of the requests closes a command's input")
	require.NotContains(t, err.Error(), "the input was closed")
}

// within returns what comes before the limit.
func within[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(hangUpLimit):
		require.FailNow(t, "nothing has ended")
		panic("unreachable")
	}
}
