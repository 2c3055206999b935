// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"strings"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// spareDir takes code when the disk is full. It is memory, so what fills the disk
// leaves it alone: code that makes room again can always be run.
const spareDir = "/tmp"

// handIn writes code to a file in the guest and returns its path.
func handIn(ctx context.Context, client *guest.Client, name, code string) (path string, err error) {
	for _, dir := range []string{Home, spareDir} {
		path = dir + "/" + name
		open := &guestv1.WriteOpen{Path: path, Size: new(uint64(len(code)))}
		if _, err = client.WriteFile(ctx, open, strings.NewReader(code)); err == nil {
			return path, nil
		}
		if err = guestError(ctx, "hand in the code", err); !errors.Is(err, ErrNoSpace) {
			return "", err
		}
	}
	return "", err
}
