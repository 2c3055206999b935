// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/stacklok/waggle/host/admin"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// statusTimeout bounds what status waits for the server, which looks at the
// whole machine before it answers.
const statusTimeout = 5 * time.Second

// statusCmd says how the server of the run directory is.
type statusCmd struct {
	runDirFlags
	JSON bool `help:"Print JSON."`
}

// serverStatus is the server, as --json has it. Without a server only Running
// and RunDir are there.
type serverStatus struct {
	Running      bool              `json:"running"`
	Version      string            `json:"version,omitempty"`
	PID          int               `json:"pid,omitempty"`
	URL          string            `json:"mcp_url,omitempty"`
	StartedAt    *time.Time        `json:"started_at,omitempty"`
	Ready        bool              `json:"ready"`
	NotReady     []string          `json:"not_ready,omitempty"`
	Environments uint32            `json:"environments"`
	Max          uint32            `json:"max_environments,omitempty"`
	ByState      map[string]uint32 `json:"environments_by_state,omitempty"`
	Limits       *statusLimits     `json:"limits,omitempty"`
	Backend      string            `json:"backend,omitempty"`
	Accelerator  string            `json:"accelerator,omitempty"`
	BackendWhy   string            `json:"backend_reason,omitempty"`
	RunDir       string            `json:"run_dir"`
	DataDir      string            `json:"data_dir,omitempty"`
}

type statusLimits struct {
	CPUs      uint32 `json:"cpus"`
	MemoryMiB uint32 `json:"memory_mib"`
	DiskMiB   uint32 `json:"disk_mib"`
	// Seconds.
	Idle    float64 `json:"idle_timeout_seconds"`
	Exec    float64 `json:"exec_timeout_seconds"`
	MaxExec float64 `json:"max_exec_timeout_seconds"`
	Orphan  float64 `json:"orphan_timeout_seconds"`
}

// Run fails when no server runs.
func (c *statusCmd) Run(ctx context.Context) error { return c.write(ctx, os.Stdout) }

func (c *statusCmd) write(ctx context.Context, out io.Writer) error {
	dir, err := c.runDir()
	if err != nil {
		return err
	}
	askCtx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	answer, err := admin.Status(askCtx, dir)
	if errors.Is(err, admin.ErrNoServer) {
		err = fmt.Errorf("%w; `waggle serve` starts one, `waggle ps` lists environments without it", err)
		if c.JSON {
			return errors.Join(json.NewEncoder(out).Encode(serverStatus{RunDir: dir}), err)
		}
	}
	if err != nil {
		return err
	}
	s := describe(answer)
	if c.JSON {
		return json.NewEncoder(out).Encode(s)
	}
	return s.print(out)
}

func describe(a *hostv1.AdminStatusResponse) serverStatus {
	s := serverStatus{
		Running: true, Version: a.GetVersion(), PID: int(a.GetPid()), URL: a.GetMcpUrl(),
		StartedAt: new(a.GetStartedAt().AsTime()), Ready: a.GetReady(), NotReady: a.GetNotReady(),
		Environments: a.GetEnvironments(), Max: a.GetMaxEnvironments(), ByState: map[string]uint32{},
		RunDir: a.GetRunDir(), DataDir: a.GetDataDir(),
		Backend: a.GetBackend(), Accelerator: a.GetAccelerator(), BackendWhy: a.GetBackendReason(),
	}
	for _, n := range a.GetEnvironmentsByState() {
		s.ByState[n.GetState()] = n.GetCount()
	}
	l := a.GetLimits()
	s.Limits = &statusLimits{
		CPUs: l.GetCpus(), MemoryMiB: l.GetMemoryMib(), DiskMiB: l.GetDiskMib(),
		Idle: l.GetIdleTimeout().AsDuration().Seconds(), Exec: l.GetExecTimeout().AsDuration().Seconds(),
		MaxExec: l.GetMaxExecTimeout().AsDuration().Seconds(), Orphan: a.GetOrphanTimeout().AsDuration().Seconds(),
	}
	return s
}

// print is for people.
func (s serverStatus) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "server\twaggle %s, pid %d, since %s\n", s.Version, s.PID, s.StartedAt.Local().Format(time.DateTime))
	fmt.Fprintf(w, "mcp\t%s\n", orDash(s.URL))
	if s.Ready {
		fmt.Fprintln(w, "ready\tyes")
	}
	for _, why := range s.NotReady {
		fmt.Fprintf(w, "not ready\t%s\n", strings.ReplaceAll(why, "\n", "; "))
	}
	var states []string
	for _, state := range []string{"creating", "running", "stopping", "failed"} {
		if n := s.ByState[state]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, state))
		}
	}
	detail := ""
	if len(states) > 0 {
		detail = ": " + strings.Join(states, ", ")
	}
	fmt.Fprintf(w, "environments\t%d of %d%s\n", s.Environments, s.Max, detail)
	if s.Backend != "" {
		fmt.Fprintf(w, "backend\t%s\n", choice{backend: s.Backend, accel: s.Accelerator, why: s.BackendWhy})
	}
	l := s.Limits
	fmt.Fprintf(w, "size\tCPUs %d, memory %d MiB, disk %d MiB\n", l.CPUs, l.MemoryMiB, l.DiskMiB)
	fmt.Fprintf(w, "timeouts\tidle %s, code %s and at most %s, without a server %s\n",
		seconds(l.Idle), seconds(l.Exec), seconds(l.MaxExec), seconds(l.Orphan))
	fmt.Fprintf(w, "run directory\t%s\n", s.RunDir)
	fmt.Fprintf(w, "data directory\t%s\n", s.DataDir)
	return w.Flush()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
