// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// closeTimeout bounds the work after calls were cut: handlers see their
	// context end and return.
	closeTimeout = 5 * time.Second
)

// CheckAddr says whether Listen takes addr. An address that others reach takes
// tokens.
func CheckAddr(addr string, tokens bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen address %q is not host:port, such as 127.0.0.1:8080: %w", addr, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen address %q has the port %q: give 0 to 65535, where 0 takes any that is free", addr, port)
	}
	if !isLoopback(host) && !tokens {
		return fmt.Errorf("listen address %q is not loopback, so anyone who reaches it could run code here: "+
			"give the callers tokens by WAGGLE_AUTH_TOKENS_FILE, or use 127.0.0.1 and a tunnel (ssh -L)", addr)
	}
	return nil
}

// Listen opens an address: of loopback, or any when callers need tokens.
func Listen(ctx context.Context, addr string, tokens bool) (net.Listener, error) {
	if err := CheckAddr(addr, tokens); err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; %s", addr, err, listenRemedy(err))
	}
	return ln, nil
}

// listenRemedy says what to do about an address that cannot be had.
func listenRemedy(err error) string {
	const other = "choose another with --listen-addr"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has the port: end it, or " + other
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 are root's: " + other
	}
	return other
}

// Serve serves ln, which it closes, until ctx ends. Calls in flight then have
// grace to finish; after that their contexts end. It returns nil after an
// orderly end.
func (e *Edge) Serve(ctx context.Context, ln net.Listener, grace time.Duration) error {
	defer e.Close()
	// No WriteTimeout and no ReadTimeout: both would cut calls that take long.
	// Bodies have a deadline of their own (readBody).
	srv := &http.Server{
		Handler:           e,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelWarn),
	}
	addr := ln.Addr()
	e.addr.Store(&addr)
	if e.cfg.TLS != nil {
		srv.TLSConfig = e.cfg.TLS.Clone()
	}
	failed := make(chan error, 1)
	go func() {
		if srv.TLSConfig != nil {
			failed <- srv.ServeTLS(ln, "", "")
			return
		}
		failed <- srv.Serve(ln)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	// The standalone streams of clients never end by themselves.
	e.Close()
	shutCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(shutCtx)
	if err != nil {
		err = srv.Close()
	}
	if serr := <-failed; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	if err != nil {
		return fmt.Errorf("shut HTTP down: %w", err)
	}
	return nil
}

// Close ends all sessions and mcp-go's sweeper. It may be called more than once.
func (e *Edge) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	// It holds no HTTP server of its own, so there is nothing that could fail.
	_ = e.mcp.Shutdown(ctx)
}
