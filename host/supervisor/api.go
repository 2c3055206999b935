// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/stacklok/waggle/proto/gen/waggle/host/v1/hostv1connect"
)

// apiVersion is the version of the control API.
const apiVersion = 1

// apiServer serves the control API on supervisor.sock.
type apiServer struct {
	http *http.Server
	done chan struct{}
	log  *slog.Logger
}

// api is the handler: one method a file.
type api struct{ *supervisor }

var _ hostv1connect.SupervisorHandler = api{}

func (s *supervisor) serve() (*apiServer, error) {
	l, err := listen(s.cfg.Dir, controlSocket)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(hostv1connect.NewSupervisorHandler(api{s}))
	a := &apiServer{
		http: &http.Server{
			Handler: mux, Protocols: unencryptedHTTP2(), ReadHeaderTimeout: 10 * time.Second,
			ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		},
		done: make(chan struct{}),
		log:  s.log,
	}
	go func() {
		defer close(a.done)
		if err := a.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("control API ended", slog.Any("error", err))
		}
	}()
	return a, nil
}

// close lets the calls that run answer, and removes the socket.
func (a *apiServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := a.http.Shutdown(ctx); err != nil {
		_ = a.http.Close()
	}
	<-a.done
}

func unencryptedHTTP2() *http.Protocols {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return p
}
