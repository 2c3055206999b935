// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/stacklok/waggle/host/supervisor"
)

// askTimeout bounds what ps waits for one supervisor.
const askTimeout = 3 * time.Second

// psCmd lists the environments of the run directory, dead ones included. It
// needs no server.
type psCmd struct {
	runDirFlags
	JSON bool `help:"Print JSON."`
}

// psRow is one environment, as --json has it.
type psRow struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Runtime string `json:"runtime,omitempty"`
	Image   string `json:"image,omitempty"`
	// ImageDigest is the content that was booted, whatever the name means now.
	ImageDigest string    `json:"image_digest,omitempty"`
	State       string    `json:"state"`
	Why         string    `json:"why,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	CPUs        int       `json:"cpus"`
	MemoryMiB   int       `json:"memory_mib"`
	DiskMiB     int       `json:"disk_mib"`
	// Pid and VMMPid are those of living processes only.
	Pid         int      `json:"pid,omitempty"`
	VMMPid      int      `json:"vmm_pid,omitempty"`
	Backend     string   `json:"backend,omitempty"`
	Accelerator string   `json:"accelerator,omitempty"`
	Holders     []string `json:"holders,omitempty"`
}

// Run prints one line for each environment.
func (c *psCmd) Run(ctx context.Context) error {
	dir, err := c.runDir()
	if err != nil {
		return err
	}
	all, err := supervisor.List(dir)
	if err != nil {
		return err
	}
	rows := []psRow{}
	for _, l := range all {
		rows = append(rows, row(ctx, l))
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(rows)
	}
	return table(os.Stdout, rows)
}

func row(ctx context.Context, l supervisor.Listed) psRow {
	if l.Record == nil {
		return psRow{ID: l.ID, State: "unreadable", Why: why(l)}
	}
	s := l.Record.Spec
	r := psRow{
		ID: l.ID, Name: printable(s.Name), Runtime: s.Runtime, Image: s.Image, ImageDigest: s.ImageDigest, CreatedAt: l.Record.CreatedAt,
		CPUs: s.CPUs, MemoryMiB: s.MemoryMiB, DiskMiB: s.DiskMiB,
	}
	if !l.Alive {
		r.State, r.Why = "dead", why(l)
		return r
	}
	r.State, r.Pid = strings.ToLower(l.Record.Phase), l.Record.Supervisor.PID
	if l.Record.VMM != nil {
		r.VMMPid = l.Record.VMM.PID
	}
	if err := ask(ctx, l, &r); err != nil {
		r.Why = complaint(err)
	}
	return r
}

// ask adds what only the supervisor knows.
func ask(ctx context.Context, l supervisor.Listed, r *psRow) error {
	askCtx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	machine, err := supervisor.Attach(l.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = machine.Close() }()
	info, err := machine.Info(askCtx)
	if err != nil {
		return err
	}
	r.State = strings.ToLower(supervisor.PhaseName(info.GetState().GetPhase()))
	r.Why = info.GetState().GetPaused()
	r.Backend = info.GetBackend()
	r.Accelerator, r.Holders = info.GetAccelerator(), info.GetHolders()
	return nil
}

func table(out io.Writer, rows []psRow) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tIMAGE\tSTATE\tAGE\tCPUS\tMEMORY\tBACKEND\tHELD BY\tNOTE")
	for _, r := range rows {
		image := r.Image
		if r.Runtime != "" {
			image = r.Runtime
		}
		age := "-"
		if !r.CreatedAt.IsZero() {
			age = time.Since(r.CreatedAt).Round(time.Second).String()
		}
		note, _, _ := strings.Cut(r.Why, "\n")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d MiB\t%s\t%s\t%.100s\n",
			r.ID, orDash(r.Name), orDash(image), r.State, age, r.CPUs, r.MemoryMiB, orDash(r.backend()),
			orDash(strings.Join(r.Holders, ", ")), note)
	}
	return w.Flush()
}

// backend is what runs it, such as qemu/kvm.
func (r psRow) backend() string {
	if r.Accelerator == "" {
		return r.Backend
	}
	return r.Backend + "/" + r.Accelerator
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
