// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/stacklok/waggle/guestd/cgroup"
	"github.com/stacklok/waggle/guestd/process/spawn"
	"github.com/stacklok/waggle/guestd/process/spool"
	"github.com/stacklok/waggle/guestd/reap"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

var _ guestv1connect.ProcessHandler = (*Service)(nil)

// ReadMaxBytes is the limit that the server must set on messages
// (connect.WithReadMaxBytes): the largest start and some room. The server should
// refuse compression as well: clients offer gzip unasked, and on a socket
// within one machine it costs half of the throughput of output.
const ReadMaxBytes = maxStart + 64<<10

// Activity counts what keeps the machine from being idle. Its methods may be
// called concurrently; Begin and End come in pairs, one for each exec.
type Activity interface {
	Begin()
	End()
}

// Config is what a Service works with.
type Config struct {
	// Reaper waits for the processes. Required.
	Reaper *reap.Reaper
	// Tree holds the control groups. Nil: there is no cgroup v2, and execs are
	// held together by session only; see package cgroup for what that lacks.
	Tree *cgroup.Tree
	// Enter is called on each thread that commands are started from, before it gives
	// up its privileges. May be nil.
	Enter func() error
	// SpoolDir takes the output of execs. It belongs to the Service alone.
	SpoolDir string
	// SpoolBytes is the budget of all spools together. Zero: 1 GiB. When it is
	// used up, ended execs are forgotten early, oldest first.
	SpoolBytes int64
	// Defaults is shared with the System service. Required.
	Defaults *Defaults
	// MaxExecs is how many execs may run at once. Zero: 512.
	MaxExecs int
	// KeepCount and KeepAge say how many ended execs are kept, and how long.
	// Zero: 256 and one hour.
	KeepCount int
	KeepAge   time.Duration
	// Activity is told of execs that run, kept children included. May be nil.
	Activity Activity
}

// Service implements the Process service. Its methods may be called
// concurrently.
type Service struct {
	cfg      Config
	pool     *spool.Pool
	launcher *spawn.Launcher
	// protected: guestd is exempt from the OOM killer, its children must not be.
	protected bool

	// execs and streams count the goroutines of each kind.
	execs   sync.WaitGroup
	streams sync.WaitGroup

	mu      sync.Mutex // before execution.mu
	closed  bool
	byID    map[string]*execution
	order   []*execution // oldest first
	running int
	heap    heap
	serial  uint64
}

// New makes a Service. guestd's oom_score_adj must have its final value before.
func New(cfg Config) (*Service, error) {
	if cfg.SpoolBytes == 0 {
		cfg.SpoolBytes = 1 << 30
	}
	if cfg.MaxExecs == 0 {
		cfg.MaxExecs = 512
	}
	if cfg.KeepCount == 0 {
		cfg.KeepCount = 256
	}
	if cfg.KeepAge == 0 {
		cfg.KeepAge = time.Hour
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return nil, fmt.Errorf("read OOM score: %w", err)
	}
	launcher, err := spawn.NewLauncher(cfg.Reaper, cfg.Enter)
	if err != nil {
		return nil, fmt.Errorf("prepare launcher: %w", err)
	}
	s := &Service{
		cfg:       cfg,
		launcher:  launcher,
		protected: strings.HasPrefix(string(score), "-"),
		byID:      make(map[string]*execution),
		heap:      newHeap(),
	}
	if s.pool, err = spool.NewPool(cfg.SpoolDir, cfg.SpoolBytes, s.reclaim); err != nil {
		launcher.Close()
		return nil, err
	}
	return s, nil
}

// Running returns the number of execs that run, those included whose main
// process has ended and whose children were kept.
func (s *Service) Running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// Shutdown refuses new execs, ends those that run, with grace between SIGTERM
// and SIGKILL in place of their own, and returns when all are gone or ctx is done.
func (s *Service) Shutdown(ctx context.Context, grace time.Duration) error {
	s.mu.Lock()
	s.closed = true
	for _, x := range s.order {
		x.setGrace(grace)
		x.requestEnd()
	}
	s.mu.Unlock()
	return wait(ctx, &s.execs, "execs")
}

// Close ends everything, waits for the streams too, and removes the spools. The
// server must have been shut down before, or streams would wait for clients.
func (s *Service) Close(ctx context.Context) error {
	if err := s.Shutdown(ctx, 0); err != nil {
		return err
	}
	if err := wait(ctx, &s.streams, "streams"); err != nil {
		return err
	}
	s.launcher.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.order {
		x.spool.Remove()
	}
	s.order, s.byID = nil, make(map[string]*execution)
	return nil
}

// wait waits for a group of goroutines. When ctx is done first, the goroutine
// that waits stays until they are.
func wait(ctx context.Context, group *sync.WaitGroup, what string) error {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s to end: %w", what, ctx.Err())
	}
}
