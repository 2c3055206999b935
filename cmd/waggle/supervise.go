// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/supervisor"
)

// superviseCmd is the process that owns one machine. supervisor.Spawn starts it,
// with the machine's spec on its standard input; its standard error is the
// machine's supervisor.log.
type superviseCmd struct {
	Dir   string `help:"The machine's directory." required:""`
	Debug bool   `help:"Log at debug level." env:"WAGGLE_DEBUG"`
}

// Run returns when the machine has ended. The end of ctx, by SIGTERM, is an
// orderly stop.
func (c *superviseCmd) Run(ctx context.Context) error {
	report := supervisor.OpenReport()
	level := slog.LevelInfo
	if c.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	err := c.run(ctx, report, log)
	if err != nil {
		report.Failed(err)
	}
	return err
}

func (c *superviseCmd) run(ctx context.Context, report *supervisor.Report, log *slog.Logger) error {
	spec, err := supervisor.ReadSpec(os.Stdin)
	if err != nil {
		return err
	}
	var s backendSettings
	if err := json.Unmarshal(spec.Backend, &s); err != nil {
		return fmt.Errorf("read backend settings: %w", err)
	}
	backend, err := s.open(log)
	if err != nil {
		return err
	}
	disks, err := disk.Open(filepath.Join(s.DataDir, "disks"), disk.DefaultLimits)
	if err != nil {
		return fmt.Errorf("open the disk cache: %w", err)
	}
	return supervisor.Run(ctx, supervisor.Config{
		Dir: c.Dir, Backend: backend, Accelerator: s.Accel, Emulated: s.emulated(),
		Disks: disks, CAFile: s.GuestCA, Listening: report.Listening, Logger: log,
	}, spec)
}
