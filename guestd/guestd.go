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

	"github.com/stacklok/waggle/guestd/boot"
	"github.com/stacklok/waggle/guestd/bulk"
	"github.com/stacklok/waggle/guestd/reap"
)

// lingerLimit bounds the wait for answers under way when the end has come.
const lingerLimit = 500 * time.Millisecond

// Config says what a guestd serves.
type Config struct {
	// Machine is nil when guestd does not own the machine.
	Machine *boot.Machine
	// Reaper waits for children. Nil: Serve makes one of its own.
	Reaper *reap.Reaper
	// User runs the workload until Configure says otherwise: name or uid.
	User string
	// Log may be nil.
	Log *slog.Logger
}

// Serve answers on l until ctx is done or a client asks for the end of the
// machine, waits for the calls that run, bounded, ends all execs and closes l.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	svc, err := newServices(cfg)
	if err != nil {
		_ = l.Close() // the error tells more
		return fmt.Errorf("prepare services: %w", err)
	}
	defer svc.close(cfg.Log)
	server := &http.Server{
		Handler:           bulk.Join(svc.handler()),
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
	case <-svc.system.Ending():
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
