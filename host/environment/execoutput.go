// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"

	"github.com/stacklok/waggle/host/guest"
)

// ReadOutput reads what an execution wrote to one stream, from offset on and at most
// limit bytes; zero: all of it, which must be no more than MaxRead.
func (m *Manager) ReadOutput(ctx context.Context, id, execution string, stderr bool, offset, limit int64) (p Piece, err error) {
	errs := []error{checkID(id), checkExecutionID(execution)}
	if offset < 0 {
		errs = append(errs, invalid("offset", "is negative: it counts bytes from the beginning"))
	}
	if limit < 0 || limit > MaxRead {
		errs = append(errs, invalid("limit", "must be 1 to %d, or left out", MaxRead))
	}
	if err := errors.Join(errs...); err != nil {
		return Piece{}, err
	}
	err = m.guestCall(ctx, id, fileTimeout, func(ctx context.Context, g *guest.Client) error {
		x, err := lookUp(ctx, g, execution)
		if err != nil {
			return err
		}
		written := count(x.GetStdoutBytes())
		if stderr {
			written = count(x.GetStderrBytes())
		}
		switch {
		case offset > written:
			return invalid("offset", "is %d, and only %d bytes were written", offset, written)
		case limit == 0 && written-offset > MaxRead:
			return invalid("limit", "is missing: %d bytes are more than one read returns, which is %d; read them in pieces with offset and limit",
				written-offset, MaxRead)
		case limit == 0:
			limit = MaxRead
		}
		p, err = piece(ctx, g, x, stderr, offset, limit)
		return err
	})
	return p, err
}
