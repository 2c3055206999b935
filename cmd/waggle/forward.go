// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/stacklok/waggle/host/guest"
)

// forwardCmd makes a port of an environment reachable on this host.
type forwardCmd struct {
	targetFlags
	Stdio bool   `help:"Connect the standard input and output to the port, and open nothing on this host."`
	Env   string `arg:"" help:"The environment, or the beginning of its id; with --addr the port."`
	Port  string `arg:"" optional:"" help:"The port in the environment, or LOCAL:PORT to listen on another one here; LOCAL 0 is any free one."`
}

// Help is the long text of --help.
func (*forwardCmd) Help() string {
	return `Listens on 127.0.0.1 until Ctrl-C and carries each connection over vsock to the
port on the environment's loopback; no network of the machine is involved. Whoever
is on this host can then reach the port. --stdio opens nothing, as for ssh's
ProxyCommand.

  waggle forward env-k3vq7d2m 3000         # http://127.0.0.1:3000
  waggle forward env-k3vq7d2m 8000:3000
  waggle forward --stdio env-k3vq7d2m 22`
}

// Run forwards until ctx ends, or with --stdio until the port closes.
func (c *forwardCmd) Run(ctx context.Context) error {
	env, rest := c.shift(c.Env, nonEmpty(c.Port))
	if len(rest) != 1 {
		return errors.New("name one port: `waggle forward ENV PORT`")
	}
	local, port, err := parsePorts(rest[0])
	if err != nil {
		return err
	}
	g, err := c.open(ctx, env)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	if c.Stdio {
		return stdio(ctx, g.Client, port)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(local))))
	if err != nil {
		return fmt.Errorf("listen on this host: %w; choose another port: `waggle forward %s 0:%d`", err, g.name, port)
	}
	fmt.Printf("Forwarding %s to port %d of %s; Ctrl-C ends it\n", ln.Addr(), port, g.name)
	return forward(ctx, ln, g.Client, port)
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// parsePorts reads PORT or LOCAL:PORT.
func parsePorts(s string) (local, port uint16, err error) {
	l, p, ok := strings.Cut(s, ":")
	if !ok {
		p = l
	}
	remote, err := strconv.ParseUint(p, 10, 16)
	if err != nil || remote == 0 {
		return 0, 0, fmt.Errorf("port %q is not within 1 to 65535: write PORT or LOCAL:PORT", p)
	}
	near, err := strconv.ParseUint(l, 10, 16)
	if err != nil {
		return 0, 0, fmt.Errorf("local port %q is not within 0 to 65535: write PORT or LOCAL:PORT", l)
	}
	return uint16(near), uint16(remote), nil
}

// forward serves ln until ctx ends, and closes it. A connection that fails is
// said and ends no other.
func forward(ctx context.Context, ln net.Listener, g *guest.Client, port uint16) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	connCtx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	for {
		conn, err := ln.Accept()
		if err != nil {
			_ = ln.Close()
			if ctx.Err() != nil {
				return nil // Ctrl-C is the way to end it
			}
			return fmt.Errorf("accept connection: %w", err)
		}
		conns.Go(func() {
			defer func() { _ = conn.Close() }()
			if err := carry(connCtx, g, port, conn, conn); err != nil && connCtx.Err() == nil {
				slog.Warn("connection ended", "port", port, "error", err)
			}
		})
	}
}

func stdio(ctx context.Context, g *guest.Client, port uint16) error {
	return carry(ctx, g, port, os.Stdin, os.Stdout)
}

// carry copies both ways until the port has closed its side, or has failed. The
// goroutine that reads in ends at the latest when its owner closes in.
func carry(ctx context.Context, g *guest.Client, port uint16, in io.Reader, out io.Writer) error {
	t, err := g.Tunnel(ctx, port)
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	go func() {
		if _, err := io.Copy(t, in); err == nil {
			_ = t.CloseWrite()
		}
	}()
	_, err = io.Copy(out, t)
	if half, ok := out.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	return err
}
