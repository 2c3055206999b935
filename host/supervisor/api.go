// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"net/http"

	"github.com/stacklok/waggle/host/socket"
	"github.com/stacklok/waggle/proto/gen/waggle/host/v1/hostv1connect"
)

// apiVersion is the version of the control API.
const apiVersion = 1

// api is the handler: one method a file.
type api struct{ *supervisor }

var _ hostv1connect.SupervisorHandler = api{}

// serve serves the control API on supervisor.sock.
func (s *supervisor) serve() (*socket.Server, error) {
	l, err := socket.Listen(s.cfg.Dir, controlSocket)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(hostv1connect.NewSupervisorHandler(api{s}))
	return socket.Serve(l, mux, s.log), nil
}
