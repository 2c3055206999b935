// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// TestRunAttach follows an exec from a place in its output, and changes the size
// of its terminal after the input has ended.
func TestRunAttach(t *testing.T) {
	t.Parallel()
	sizes := make(chan *guestv1.TerminalSize)
	c, _ := serve(t, &fake{run: func(_ context.Context, s *runStream) error {
		req, err := s.Receive()
		if err != nil {
			return err
		}
		at := req.GetAttach().GetCursor().GetStdoutOffset()
		if err := send(s, started(), stdout(at, req.GetAttach().GetExecId())); err != nil {
			return err
		}
		for {
			req, err := s.Receive()
			if err != nil {
				return err
			}
			switch m := req.GetMessage().(type) {
			case *guestv1.ProcessRunRequest_CloseStdin:
				sizes <- &guestv1.TerminalSize{Rows: 5, Cols: 7}
			case *guestv1.ProcessRunRequest_Resize:
				return send(s, exited(int32(m.Resize.GetRows()*10+m.Resize.GetCols())))
			}
		}
	}})
	var out bytes.Buffer
	res, err := c.Run(t.Context(), guest.Exec{
		Attach: &guestv1.Attach{ExecId: "e1", Cursor: &guestv1.Cursor{StdoutOffset: 9}},
		Stdin:  strings.NewReader("x"), Resize: sizes, Stdout: &out,
	})
	require.NoError(t, err)
	require.Equal(t, "e1", out.String())
	require.Equal(t, int32(57), res.GetExitCode())
}

// TestRunInputError: an input that fails must not look like its end, or a command
// would act on half of it.
func TestRunInputError(t *testing.T) {
	t.Parallel()
	got := make(chan error, 1)
	c, _ := serve(t, &fake{run: func(_ context.Context, s *runStream) error {
		for {
			req, err := s.Receive()
			if req.GetCloseStdin() != nil || errors.Is(err, io.EOF) {
				err = errors.New("the input was closed")
			}
			if req.GetStart() != nil {
				err = s.Send(started())
			}
			if err != nil {
				got <- err
				return err
			}
		}
	}})
	torn := errors.New("torn")
	_, err := c.Run(t.Context(), guest.Exec{Start: command, Stdin: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(torn))})
	require.ErrorIs(t, err, torn)
	require.NotErrorIs(t, err, guest.ErrInputLost)
	require.NotContains(t, (<-got).Error(), "closed")
}

func TestRunNeitherOrBoth(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, &fake{})
	for _, e := range []guest.Exec{{}, {Start: command, Attach: &guestv1.Attach{ExecId: "e1"}}} {
		_, err := c.Run(t.Context(), e)
		require.ErrorContains(t, err, "either")
	}
}
