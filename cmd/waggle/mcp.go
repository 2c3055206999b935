// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stacklok/waggle/host/admin"
	"github.com/stacklok/waggle/host/socket"
	bridge "github.com/stacklok/waggle/host/stdio"
)

// mcpCmd serves one client on its standard streams. What serves is the server of the
// run directory; where there is none, this process becomes it.
type mcpCmd struct {
	serverFlags
}

// Help implements kong.HelpProvider.
func (mcpCmd) Help() string {
	return `For clients that start a command, such as

    {"mcpServers": {"waggle": {"command": "waggle", "args": ["mcp"]}}}

The environments are those of ` + "`waggle serve`" + `, if that runs as the same user, and then
its settings are the ones that count. Otherwise this command is the server, for others
like it too, and the next one takes the environments over when it ends. Logs go to
standard error.`
}

// Run carries messages until the client closes standard input.
func (c *mcpCmd) Run(ctx context.Context) error {
	level := slog.LevelWarn
	if c.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	// A client that has died closes its input as one does that waits for answers: what
	// tells them apart is whether anybody could read those.
	ctx, cancel := context.WithCancel(ctx)
	var watched sync.WaitGroup
	watched.Go(func() { untilHangup(ctx, os.Stdout, cancel) })
	defer watched.Wait()
	defer cancel()
	return c.run(ctx, os.Stdin, os.Stdout, log)
}

func (c *mcpCmd) run(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	dir, err := c.ownRunDir()
	if err != nil {
		return err
	}
	host := &stdioHost{flags: c.serverFlags, log: log, socket: admin.SocketPath(dir)}
	host.http = socket.Transport(host.socket)
	// The server's life is not the client's calls': those end first.
	var stop context.CancelFunc
	host.ctx, stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		host.http.CloseIdleConnections()
		stop()
		host.served.Wait()
		err = errors.Join(err, host.failure())
	}()
	if err := host.ensure(ctx); err != nil {
		return err
	}
	b := &bridge.Bridge{Endpoint: "http://waggle/mcp", HTTP: host, Log: log}
	return b.Run(ctx, in, out)
}

// stdioHost reaches the server of the run directory, and becomes it where there is
// none: the one that there was may end at any time.
type stdioHost struct {
	flags  serverFlags
	log    *slog.Logger
	socket string
	http   *http.Transport

	ctx    context.Context // the server's, if it is this process
	served sync.WaitGroup

	mu sync.Mutex // one at a time looks for a server
	// ended has why the server ended that is this process; nil: there is none.
	ended chan error
}

// serverStart is how long a server may take until its socket answers.
const serverStart = 30 * time.Second

// RoundTrip implements http.RoundTripper. A server that has gone is replaced before the
// message is sent; one that goes meanwhile is an error, for the call may have been made.
func (h *stdioHost) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := h.ensure(r.Context()); err != nil {
		return nil, err
	}
	return h.http.RoundTrip(r)
}

// ensure returns when a server answers.
func (h *stdioHost) ensure(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for deadline := time.Now().Add(serverStart); ; {
		conn, err := h.http.DialContext(ctx, "unix", "")
		if err == nil {
			return conn.Close()
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("reach the server of %s: %w", filepath.Dir(h.socket), err)
		}
		if h.ended == nil {
			h.begin()
		}
		select {
		case err := <-h.ended:
			h.ended = nil
			var held *admin.HeldError
			if !errors.As(err, &held) { // else another one was faster, and will answer
				return errors.Join(errors.New("the server has ended"), err)
			}
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// begin makes this process the server. h.mu is held.
func (h *stdioHost) begin() {
	ended := make(chan error, 1)
	h.ended = ended
	h.served.Go(func() {
		ended <- (&serveCmd{serverFlags: h.flags, local: true}).run(h.ctx, io.Discard, h.log)
	})
}

// failure is why the server ended that was this process. It has ended.
func (h *stdioHost) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended == nil {
		return nil
	}
	return <-h.ended
}
