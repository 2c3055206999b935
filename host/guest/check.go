// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
)

// Check asks a guestd whose ready handshake somebody else took, as under another
// VMM, which protocol versions it speaks. The error wraps ErrProtocol when none
// of them is ours.
func (c *Client) Check(ctx context.Context) error {
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	_, err = negotiate(info.GetAgent())
	return err
}
