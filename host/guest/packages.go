// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// InstallProgress follows an install. The functions are called one at a time,
// while Install runs; each may be nil.
type InstallProgress struct {
	Phase func(*guestv1.InstallPhase)
	Line  func(string)
}

// Install installs packages. A manager that fails is no error: the result then
// has a failure.
func (c *Client) Install(
	ctx context.Context, req *guestv1.PackagesInstallRequest, progress InstallProgress,
) (*guestv1.InstallDone, error) {
	stream, err := c.packages.Install(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, fmt.Errorf("install packages: %w", err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		switch m := stream.Msg().GetMessage().(type) {
		case *guestv1.PackagesInstallResponse_Phase:
			if progress.Phase != nil {
				progress.Phase(m.Phase)
			}
		case *guestv1.PackagesInstallResponse_Line:
			if progress.Line != nil {
				progress.Line(m.Line)
			}
		case *guestv1.PackagesInstallResponse_Done:
			return m.Done, nil
		}
	}
	if err := stream.Err(); err != nil {
		return nil, fmt.Errorf("install packages: %w", err)
	}
	return nil, errors.New("install packages: the stream ended without a result; did the environment end?")
}
