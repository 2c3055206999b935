// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// piecesOf answers an attach with pieces of output, and stays open.
func piecesOf(t *testing.T, want *guestv1.Cursor, pieces ...*guestv1.ProcessRunResponse) *fake {
	t.Helper()
	return &fake{run: func(ctx context.Context, s *runStream) error {
		req, err := s.Receive()
		if err != nil {
			return err
		}
		if c := req.GetAttach().GetCursor(); c.GetStdoutOffset() != want.GetStdoutOffset() || c.GetStderrOffset() != want.GetStderrOffset() {
			t.Errorf("cursor is %v", c)
		}
		for _, p := range pieces {
			if err := s.Send(p); err != nil {
				return err
			}
		}
		<-ctx.Done() // the reader has enough
		return ctx.Err()
	}}
}

func stdoutAt(offset uint64, data string) *guestv1.ProcessRunResponse {
	return &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Stdout{Stdout: &guestv1.Output{Offset: offset, Data: []byte(data)}}}
}

func stderrAt(offset uint64, data string) *guestv1.ProcessRunResponse {
	return &guestv1.ProcessRunResponse{Message: &guestv1.ProcessRunResponse_Stderr{Stderr: &guestv1.Output{Offset: offset, Data: []byte(data)}}}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pieces []*guestv1.ProcessRunResponse
		offset uint64
		data   string
	}{
		"in pieces":        {[]*guestv1.ProcessRunResponse{stdoutAt(2, "cd"), stderrAt(9, "?"), stdoutAt(4, "efgh")}, 2, "cdef"},
		"begins later":     {[]*guestv1.ProcessRunResponse{stdoutAt(4, "efgh")}, 4, "ef"},
		"ends at a gap":    {[]*guestv1.ProcessRunResponse{stdoutAt(2, "c"), stdoutAt(5, "fgh")}, 2, "c"},
		"nothing is there": {[]*guestv1.ProcessRunResponse{stdoutAt(7, "h")}, 7, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := serve(t, piecesOf(t, &guestv1.Cursor{StdoutOffset: 2, StderrOffset: 9}, tc.pieces...))
			offset, data, err := c.Output(t.Context(), guest.OutputRange{ExecID: "x", Offset: 2, End: 6, Other: 9})
			require.NoError(t, err)
			require.Equal(t, tc.offset, offset)
			require.Equal(t, tc.data, string(data))
		})
	}
	c, _ := serve(t, piecesOf(t, &guestv1.Cursor{StdoutOffset: 2}, stdoutAt(2, "cd"), stdoutAt(3, "d")))
	_, _, err := c.Output(t.Context(), guest.OutputRange{ExecID: "x", Offset: 2, End: 6})
	require.ErrorContains(t, err, "output goes back")
	c, _ = serve(t, piecesOf(t, &guestv1.Cursor{StderrOffset: 3}, stderrAt(3, "d")))
	require.NoError(t, c.Await(t.Context(), "x", &guestv1.Cursor{StderrOffset: 3}))
}
