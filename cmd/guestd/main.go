// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd"
	"github.com/stacklok/waggle/guestd/boot"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/version"
)

const (
	// memoryLimit is soft, in bytes: what guestd holds is taken from the
	// workload. A limit of 10 MiB makes the collector cost a bulk write three
	// times its time; with this one guestd stays below 20 MiB, program included.
	// While many execs run at once, package process raises it.
	memoryLimit = 14 << 20
	gcPercent   = 50
)

func main() {
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(gcPercent)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: dropTime}))
	// The kernel passes words of its command line that it does not know to the
	// first process, so these are not looked at there.
	if boot.Owner() {
		if err := guestd.RunMachine(log); err != nil {
			log.Error("no machine", slog.Any("err", err))
		}
		os.Exit(1)
	}
	if err := plain(log); err != nil {
		log.Error("guestd failed", slog.Any("err", err))
		os.Exit(1)
	}
}

// dropTime leaves the time to the console, whose reader stamps the lines: the
// guest's clock is not set at boot.
func dropTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// plain serves until SIGINT or SIGTERM.
func plain(log *slog.Logger) error {
	listen := flag.String("listen", "", "address to serve on: unix:///path")
	ready := flag.String("ready", "", "where a host waits for the ready handshake: unix:///path")
	showVersion := flag.Bool("version", false, "print the version")
	flag.Parse()
	if *showVersion {
		_, err := fmt.Println(version.String())
		return err
	}
	path, ok := unixPath(*listen)
	if !ok {
		return errors.New("not the first process of a machine: give -listen unix:///path")
	}
	host, ok := unixPath(*ready)
	if *ready != "" && !ok {
		return fmt.Errorf("-ready %q is not unix:///path", *ready)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	// Whoever may connect acts with the rights of this process.
	unix.Umask(0o077)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	unix.Umask(0o022)
	cfg := guestd.Config{User: strconv.Itoa(os.Getuid()), Log: log}
	if host == "" {
		return guestd.Serve(ctx, listener, cfg)
	}
	return guestd.ServeAnnounced(ctx, listener, cfg, func(ctx context.Context, ready *guestv1.Ready) (uint32, error) {
		return boot.AnnounceUnix(ctx, host, ready)
	})
}

// unixPath returns the path of an address.
func unixPath(address string) (string, bool) {
	path, ok := strings.CutPrefix(address, "unix://")
	return path, ok && strings.HasPrefix(path, "/")
}
