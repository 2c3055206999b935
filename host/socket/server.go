// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// headerTimeout bounds what a client may take to say what it wants.
const headerTimeout = 10 * time.Second

// Server serves one socket.
type Server struct {
	http *http.Server
	done chan struct{}
}

// Serve serves l, which it closes, until Close.
func Serve(l net.Listener, handler http.Handler, log *slog.Logger) *Server {
	s := &Server{
		http: &http.Server{
			Handler: handler, Protocols: unencryptedHTTP2(), ReadHeaderTimeout: headerTimeout,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket ended", slog.String("path", l.Addr().String()), slog.Any("error", err))
		}
	}()
	return s
}

// Close removes the socket and lets the calls that run answer within farewell.
// It may be called once.
func (s *Server) Close(farewell time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
	<-s.done
}

func unencryptedHTTP2() *http.Protocols {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return p
}
