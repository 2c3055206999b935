// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"syscall"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/host/socket"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/host/v1/hostv1connect"
)

// ErrNoServer is a run directory that no server owns.
var ErrNoServer = errors.New("no server runs here")

// Status asks the server of a run directory how it is. ctx needs a deadline: a
// server that was stopped (SIGSTOP) takes the call and never answers.
func Status(ctx context.Context, runDir string) (*hostv1.AdminStatusResponse, error) {
	path := filepath.Join(runDir, socketFile)
	if err := socket.CheckPath(path); err != nil {
		return nil, err
	}
	transport := socket.Transport(path)
	defer transport.CloseIdleConnections()
	client := hostv1connect.NewAdminClient(&http.Client{Transport: transport}, "http://admin")
	resp, err := client.Status(ctx, connect.NewRequest(&hostv1.AdminStatusRequest{}))
	switch {
	case err == nil:
		return resp.Msg, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: %s", ErrNoServer, runDir)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("ask the server of %s: permission denied: it runs as another user, or set WAGGLE_RUN_DIR", runDir)
	case ctx.Err() != nil, connect.CodeOf(err) == connect.CodeDeadlineExceeded:
		return nil, fmt.Errorf("ask the server of %s: it does not answer%s; its log may say why", runDir, named(ownerPID(runDir)))
	}
	return nil, fmt.Errorf("ask the server of %s: %w", runDir, err)
}

func named(pid int) string {
	if pid == 0 {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}
