// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/guestd/bulk"
	"github.com/stacklok/waggle/guestd/cgroup"
	"github.com/stacklok/waggle/guestd/filesystem"
	"github.com/stacklok/waggle/guestd/packages"
	"github.com/stacklok/waggle/guestd/process"
	"github.com/stacklok/waggle/guestd/reap"
	"github.com/stacklok/waggle/guestd/system"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

const (
	// maxData bounds a request message in bytes: 1 MiB of data and its frame.
	maxData = 1<<20 + 64<<10
	// maxConfigure bounds a Configure: 4 MiB of certificates and the rest.
	maxConfigure = 5 << 20
	// closeLimit bounds the wait for execs and their streams at the end.
	closeLimit = 5 * time.Second
)

// services are all that guestd serves, and what they share.
type services struct {
	activity   *activity
	process    *process.Service
	system     *system.Service
	filesystem *filesystem.Service
	packages   *packages.Service

	inner     *inner
	ownReaper *reap.Reaper // nil when the caller gave one
	tree      *cgroup.Tree // nil without cgroup v2
	tempDir   string       // of the spools of a plain process
}

// newServices starts what Serve needs. After an error nothing is left of it.
func newServices(cfg Config) (_ *services, err error) {
	s := &services{activity: newActivity()}
	reaper := cfg.Reaper
	if reaper == nil {
		reaper = reap.New()
		s.ownReaper = reaper
	}
	defer func() {
		if err != nil {
			s.release(cfg.Log)
		}
	}()
	spools, err := s.prepare(cfg)
	if err != nil {
		return nil, err
	}
	defaults := process.NewDefaults(cfg.User)
	var enter func() error // nil: the commands of a plain process live where it does
	if cfg.Machine != nil {
		enter = cfg.Machine.EnterWorkload
	}
	s.process, err = process.New(process.Config{
		Reaper: reaper, Tree: s.tree, Enter: enter, SpoolDir: spools, Defaults: defaults, Activity: s.activity,
	})
	if err != nil {
		return nil, err
	}
	s.system = system.New(system.Config{
		Machine: cfg.Machine, Meter: s.activity, Defaults: defaults, Execs: s.process, Tree: s.tree, Log: cfg.Log,
	})
	s.filesystem = filesystem.New(func() (filesystem.User, error) { return fileUser(defaults) })
	s.inner = startInner(s.process)
	s.packages = packages.New(s.inner.client())
	return s, nil
}

// prepare opens the control groups and returns the directory of the spools. A
// plain process leaves the control groups of its machine alone.
func (s *services) prepare(cfg Config) (spools string, err error) {
	if cfg.Machine == nil {
		s.tempDir, err = os.MkdirTemp("", "guestd-")
		return s.tempDir, err
	}
	s.tree, err = cgroup.Open(cgroup.DefaultRoot, "memory", "cpu", "pids")
	if errors.Is(err, cgroup.ErrUnavailable) {
		cfg.Log.Warn("no cgroup v2: execs are held together by session only", slog.Any("err", err))
	} else if err != nil {
		return "", err
	}
	spools = filepath.Join(cfg.Machine.StateDir(), "spool")
	if err := os.MkdirAll(spools, 0o700); err != nil {
		return "", fmt.Errorf("make spool directory: %w", err)
	}
	return spools, nil
}

// fileUser returns the identity of the workload user for file work.
func fileUser(defaults *process.Defaults) (filesystem.User, error) {
	found, err := defaults.Account()
	if err != nil {
		return filesystem.User{}, err
	}
	user := filesystem.User{UID: int(found.UID), GID: int(found.GID)}
	for _, group := range found.Groups {
		user.Groups = append(user.Groups, int(group))
	}
	return user, nil
}

func (s *services) handler() http.Handler {
	options := func(limit int) connect.HandlerOption {
		return connect.WithHandlerOptions(
			connect.WithInterceptors(s.activity),
			connect.WithReadMaxBytes(limit),
			connect.WithCodec(bulk.Codec{}),
			uncompressed(),
		)
	}
	mux := http.NewServeMux()
	mux.Handle(guestv1connect.NewSystemHandler(s.system, options(maxConfigure)))
	mux.Handle(guestv1connect.NewFilesystemHandler(s.filesystem, options(maxData)))
	mux.Handle(guestv1connect.NewProcessHandler(s.process, options(process.ReadMaxBytes)))
	mux.Handle(guestv1connect.NewPackagesHandler(s.packages, options(maxData)))
	return mux
}

// uncompressed refuses what a client compressed and compresses no answer: nothing
// is gained within one host, and a small message must not become a large one.
func uncompressed() connect.HandlerOption { return connect.WithCompression("gzip", nil, nil) }

// close ends all execs. The server must have been shut down.
func (s *services) close(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	s.inner.close()
	if err := s.process.Close(ctx); err != nil {
		log.Warn("execs not ended", slog.Any("err", err))
	}
	s.release(log)
}

// release gives back what is not a service.
func (s *services) release(log *slog.Logger) {
	if s.ownReaper != nil {
		s.ownReaper.Close()
	}
	if s.tree != nil {
		if err := s.tree.Close(); err != nil {
			log.Warn("control groups not closed", slog.Any("err", err))
		}
	}
	if s.tempDir != "" {
		if err := os.RemoveAll(s.tempDir); err != nil {
			log.Warn("spools not removed", slog.Any("err", err))
		}
	}
}
