// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/guestd/boot"
	"github.com/stacklok/waggle/guestd/filesystem"
	"github.com/stacklok/waggle/guestd/system"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

const (
	// maxData bounds a request message in bytes: 1 MiB of data and its frame.
	maxData = 1<<20 + 64<<10
	// maxConfigure bounds a Configure: 4 MiB of certificates and the rest.
	maxConfigure = 5 << 20
	// lingerLimit bounds the wait for answers under way when the end has come.
	lingerLimit = 500 * time.Millisecond
)

// Config says what a guestd serves. All fields may be empty.
type Config struct {
	// Machine is nil when guestd does not own the machine.
	Machine *boot.Machine
	// User is who works until Configure says otherwise.
	User filesystem.User
	// Log may be nil.
	Log *slog.Logger
}

// Serve answers on l until ctx is done or a client asks for the end of the
// machine, waits for the calls that run, bounded, and closes l.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	act := newActivity()
	sys := system.New(cfg.Machine, act, cfg.User, cfg.Log)
	server := &http.Server{
		Handler:           handler(sys, act),
		Protocols:         new(http.Protocols),
		HTTP2:             tuned(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	server.Protocols.SetHTTP1(true) // for curl by hand, through guestd.sock
	server.Protocols.SetUnencryptedHTTP2(true)

	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	case <-sys.Ending():
	}
	lingerCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lingerLimit)
	defer cancel()
	if err := server.Shutdown(lingerCtx); err != nil {
		_ = server.Close() // streams that would not end
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// tuned raises the defaults of HTTP/2, which throttle bulk transfer: a write of
// 1 MiB pieces would wait for credit many times a piece. One connection carries
// all calls of the host, so its window is larger than a stream's.
func tuned() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          1000,
		MaxReadFrameSize:              256 << 10,
		MaxReceiveBufferPerConnection: 4<<20 - 1,
		MaxReceiveBufferPerStream:     1 << 20,
	}
}

func handler(sys *system.Service, act *activity) http.Handler {
	options := func(limit int) connect.HandlerOption {
		return connect.WithHandlerOptions(
			connect.WithInterceptors(act),
			connect.WithReadMaxBytes(limit),
			// Nothing is gained by compressing within one host.
			connect.WithCompression("gzip", nil, nil),
		)
	}
	mux := http.NewServeMux()
	mux.Handle(guestv1connect.NewSystemHandler(sys, options(maxConfigure)))
	mux.Handle(guestv1connect.NewFilesystemHandler(filesystem.New(sys.User), options(maxData)))
	mux.Handle(guestv1connect.NewProcessHandler(guestv1connect.UnimplementedProcessHandler{}, options(maxData)))
	mux.Handle(guestv1connect.NewPackagesHandler(guestv1connect.UnimplementedPackagesHandler{}, options(maxData)))
	return mux
}
