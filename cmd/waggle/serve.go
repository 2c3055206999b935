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
	"runtime"
	"time"

	"github.com/stacklok/waggle/host/admin"
	"github.com/stacklok/waggle/host/edge"
	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/metrics"
	"github.com/stacklok/waggle/host/supervisor"
	"github.com/stacklok/waggle/host/tools"
	"github.com/stacklok/waggle/version"
)

const (
	// shutdownGrace is the time that calls in flight get after SIGTERM or
	// Ctrl-C: code may run as long by default.
	shutdownGrace = 30 * time.Second
	// adminFarewell is the same for the admin socket.
	adminFarewell = time.Second
)

// serveCmd is the MCP server. Environments do not depend on it: it may end, or
// die, and be started again at any time.
type serveCmd struct {
	serverFlags
	edgeFlags

	// local: nothing is served but the socket in the run directory.
	local bool
}

// Help implements kong.HelpProvider.
func (serveCmd) Help() string {
	return `A runtime is changed, or made, by the environment alone:

    WAGGLE_RUNTIME_PYTHON_EXEC_COMMAND="/opt/venv/bin/python3 -u"
    WAGGLE_RUNTIME_PYTHON_INSTALL_COMMAND="/opt/venv/bin/pip install"
    WAGGLE_RUNTIME_RUBY_IMAGE=docker.io/library/ruby:3.4
    WAGGLE_RUNTIME_RUBY_EXEC_COMMAND=/usr/local/bin/ruby
    WAGGLE_RUNTIME_RUBY_INSTALL_COMMAND="/usr/local/bin/gem install"
    WAGGLE_RUNTIME_RUBY_EXTENSION=.rb

A command is an absolute path and arguments, separated by spaces. A file with the code,
or the packages, come after them. docs/CUSTOM_IMAGES.md has more.`
}

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context) error {
	level := slog.LevelInfo
	if c.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return c.run(ctx, os.Stdout, log)
}

// run makes this process the run directory's server and serves. The lock comes
// before everything else: a second server must not touch what the first one has.
func (c *serveCmd) run(ctx context.Context, out io.Writer, log *slog.Logger) (err error) {
	backend, on, err := c.backend(ctx)
	if err != nil {
		return err
	}
	dataDir, err := c.dataDir()
	if err != nil {
		return err
	}
	lock, ln, err := c.claim(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	defer func() { _ = ln.Close() }() // as Serve does, if it comes to that
	holder := fmt.Sprintf("serve %d", os.Getpid())
	launcher, err := c.launcher(holder, backend)
	if err != nil {
		return err
	}
	on.log(log)
	c.warn(log)
	_, runtimes, err := c.runtimes(os.Environ())
	if err != nil {
		return err
	}
	maxCPUs, maxMemory := c.maxSize(runtime.NumCPU(), meminfo)
	manager, err := environment.New(environment.Config{
		Runtimes: runtimes,
		Launch:   launcher.Launch, Holder: holder, Max: c.MaxEnvironments, MaxPerOwner: c.MaxPerCaller,
		CPUs: c.CPUs, MemoryMiB: c.MemoryMB, DiskMiB: c.DiskMB, MaxCPUs: maxCPUs, MaxMemoryMiB: maxMemory,
		Idle: time.Duration(c.DefaultTimeoutMin) * time.Minute, Orphan: c.OrphanTimeout,
		ExecDefault: c.DefaultExecTimeout, ExecMax: c.MaxExecTimeout, Logger: log,
	})
	if err != nil {
		return err
	}
	defer manager.Close()
	s := newServing(c, manager, lock, backend, on, launcher.RunDir, dataDir)
	front, err := c.edge(s, log)
	if err != nil {
		return err
	}
	defer front.Close()
	api, err := lock.Serve(s.status, front.Local(s.open), log)
	if err != nil {
		return err
	}
	defer api.Close(adminFarewell)
	return c.serve(ctx, s, front, ln, out, log)
}

// claim takes the run directory and the address. Where there is no run directory, no
// server has it, and none is made for the sake of an address that is taken.
func (c *serveCmd) claim(ctx context.Context) (lock *admin.Lock, ln net.Listener, err error) {
	dir, err := c.runDir()
	if err != nil {
		return nil, nil, err
	}
	if !isDir(dir) {
		if ln, err = c.open(ctx); err != nil {
			return nil, nil, err
		}
		if dir, err = c.ownRunDir(); err != nil {
			return nil, nil, closing(err, ln)
		}
	}
	if lock, err = admin.Acquire(ctx, dir); err != nil {
		if ln != nil {
			_ = ln.Close()
		}
		return nil, nil, err
	}
	if ln == nil {
		if ln, err = c.open(ctx); err != nil {
			return nil, nil, errors.Join(err, lock.Close())
		}
	}
	return lock, ln, nil
}

// open opens what is listened on.
func (c *serveCmd) open(ctx context.Context) (net.Listener, error) {
	if c.local {
		return newSilence(), nil
	}
	return c.listen(ctx)
}

// serve takes over what an earlier server left, and then takes calls until ctx
// ends.
func (c *serveCmd) serve(ctx context.Context, s *serving, front *edge.Edge, ln net.Listener, out io.Writer, log *slog.Logger) error {
	removed, err := sweep(ctx, s.runDir, s.dataDir, keepDead)
	if err != nil {
		log.Warn("not all that killed processes left could be removed", "error", err)
	}
	if text := removed.String(); text != "" {
		log.Info("removed what killed processes left", "what", text)
	}
	if err := adopt(ctx, out, s.runDir, s.manager, log); err != nil {
		return err
	}
	url := c.url(ln.Addr())
	log.Info("serving", "version", version.String(), "url", url, "pid", os.Getpid(), "run_dir", s.runDir, "data_dir", s.dataDir)
	for _, why := range s.unready() {
		log.Warn("environments cannot be made yet", "reason", why)
	}
	s.listening(url)
	if !c.local {
		fmt.Fprintf(out, "Waggle %s serves MCP at %s\n", version.String(), url)
	}
	stop := context.AfterFunc(ctx, func() {
		s.ending()
		log.Info("ending: calls in flight may finish; another signal cuts them", "grace", shutdownGrace)
	})
	defer stop()
	err = front.Serve(ctx, ln, shutdownGrace)
	s.manager.Close()
	if n := s.living(); n > 0 {
		fmt.Fprintf(out, "Environments that live on: %d, for %s at most without a server. Start `waggle serve` again to take them over, "+
			"or end them with `waggle rm --all`.\n", n, c.OrphanTimeout)
	}
	return err
}

// edge builds what is served.
func (c *serveCmd) edge(s *serving, log *slog.Logger) (*edge.Edge, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	measured := metrics.New(s.manager, version.String())
	cfg.Metrics = measured.Handler(log)
	cfg.MCP, err = tools.New(tools.Config{
		Manager: s.manager, Notify: edge.Notify, Preview: edge.PreviewURL, Call: measured.Call, Version: version.String(), Logger: log,
	})
	if err != nil {
		return nil, err
	}
	cfg.Ready, cfg.Dial, cfg.Logger = s.ready, s.manager.Dial, log
	cfg.LongestCall = max(c.MaxExecTimeout, environment.InstallTimeout())
	return edge.New(cfg)
}

// adopt takes over what an earlier server left, and names what it cannot.
func adopt(ctx context.Context, out io.Writer, runDir string, manager *environment.Manager, log *slog.Logger) error {
	left, err := supervisor.List(runDir)
	if err != nil {
		return err
	}
	var machines []*supervisor.Client
	dead := 0
	for _, l := range left {
		if !l.Alive {
			dead++
			manager.Remember(l.ID, l.Record.Spec.Owner, why(l))
			continue
		}
		machine, err := supervisor.Attach(l.Dir)
		if err != nil {
			log.Warn("environment cannot be taken over", "env", l.ID, "error", err)
			continue
		}
		machines = append(machines, machine)
	}
	if n := manager.Adopt(ctx, machines); n > 0 {
		fmt.Fprintf(out, "Environments taken over from an earlier server: %d; they count against the maximum of %d. `waggle rm --all` ends them.\n",
			n, manager.Max())
	}
	if dead > 0 {
		fmt.Fprintf(out, "Environments that ended without being cleaned up: %d. `waggle logs` says why, `waggle rm --all` removes what is left.\n", dead)
	}
	return nil
}

// closing closes a listener that nothing will serve.
func closing(err error, ln net.Listener) error {
	_ = ln.Close()
	return err
}
