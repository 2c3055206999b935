// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/host/socket"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/host/v1/hostv1connect"
)

// apiVersion is the version of the admin API.
const apiVersion = 1

// probeTimeout bounds the look whether somebody answers on an old socket.
const probeTimeout = time.Second

// StatusFunc describes the server. It is called concurrently. The API fills in
// its own version and the process id.
type StatusFunc func(context.Context) *hostv1.AdminStatusResponse

// Serve serves the admin API in the locked run directory, and MCP at /mcp for `waggle
// mcp`; nil: not. The socket of a server that died is replaced. The caller closes what is
// returned before the lock.
func (l *Lock) Serve(status StatusFunc, mcp http.Handler, log *slog.Logger) (*socket.Server, error) {
	path := filepath.Join(l.dir, socketFile)
	if err := socket.CheckPath(path); err != nil {
		return nil, err
	}
	// The lock says that the old socket's owner is gone, unless somebody has
	// deleted the lock file.
	if conn, err := net.DialTimeout("unix", path, probeTimeout); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("another server answers on %s though it does not hold %s: was that file deleted? "+
			"End that server, or give this one a directory of its own with WAGGLE_RUN_DIR", path, lockFile)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace the admin socket: %w", err)
	}
	listener, err := socket.Listen(l.dir, socketFile)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle(hostv1connect.NewAdminHandler(api{status}))
	if mcp != nil {
		mux.Handle("/mcp", mcp)
	}
	return socket.Serve(listener, mux, log), nil
}

// api is the handler.
type api struct{ status StatusFunc }

var _ hostv1connect.AdminHandler = api{}

// Status describes the server.
func (a api) Status(
	ctx context.Context, _ *connect.Request[hostv1.AdminStatusRequest],
) (*connect.Response[hostv1.AdminStatusResponse], error) {
	status := a.status(ctx)
	status.ApiVersion, status.Pid = apiVersion, int32(os.Getpid())
	return connect.NewResponse(status), nil
}
