// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// topCmd shows what an environment is doing.
type topCmd struct {
	targetFlags
	Interval time.Duration `short:"n" help:"Time between two measurements, at least 100ms." default:"1s"`
	Once     bool          `help:"Measure for one interval, print it and end. So it is where the output is no terminal."`
	JSON     bool          `help:"Print one measurement as JSON."`
	Env      string        `arg:"" optional:"" help:"The environment, or the beginning of its id."`
}

// Help is the long text of --help.
func (*topCmd) Help() string {
	return `Shows CPU, memory, disk and network of the environment, and its commands: those
that run, and those that have ended and whose output is kept; "exit 0, 2 left" is one
that has ended and whose two processes --keep-children lets live on. Looking on does not
count as activity. Ctrl-C ends it.

  waggle top env-k3vq7d2m
  waggle top --json env-k3vq7d2m | jq '.execs[].exec_id'`
}

// topView is one picture, as --json has it.
type topView struct {
	Env                 string    `json:"env"`
	Time                time.Time `json:"time"`
	CPUs                uint32    `json:"cpus"`
	CPUPercent          float64   `json:"cpu_percent"` // of one CPU
	MemoryTotalBytes    uint64    `json:"memory_total_bytes"`
	MemoryUsedBytes     uint64    `json:"memory_used_bytes"`
	DiskTotalBytes      uint64    `json:"disk_total_bytes"`
	DiskUsedBytes       uint64    `json:"disk_used_bytes"`
	Tasks               uint32    `json:"tasks"`
	ReceivedBytesPerSec float64   `json:"received_bytes_per_second"`
	SentBytesPerSec     float64   `json:"sent_bytes_per_second"`
	Execs               []topExec `json:"execs"`
}

// topExec is one command.
type topExec struct {
	ExecID      string    `json:"exec_id"`
	State       string    `json:"state"`
	Pid         int32     `json:"pid,omitempty"`
	Processes   uint32    `json:"processes"`
	StartedAt   time.Time `json:"started_at"`
	StdoutBytes uint64    `json:"stdout_bytes"`
	StderrBytes uint64    `json:"stderr_bytes"`
	Followers   uint32    `json:"followers"`
	Command     string    `json:"command"`
}

// errSeen ends the stream of measurements.
var errSeen = errors.New("enough was measured")

// Run shows pictures until ctx ends, or one.
func (c *topCmd) Run(ctx context.Context) error {
	g, err := c.open(ctx, c.Env)
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }()
	info, err := g.Info(ctx)
	if err != nil {
		return err
	}
	once := c.Once || c.JSON || !term.IsTerminal(int(os.Stdout.Fd()))
	var last *guestv1.SystemMetricsResponse
	err = g.Metrics(ctx, c.Interval, func(m *guestv1.SystemMetricsResponse) error {
		before := last
		last = m
		if before == nil {
			return nil
		}
		execs, err := g.Execs(ctx)
		if err != nil {
			return err
		}
		if err := c.show(os.Stdout, newTopView(g.name, info, before, m, execs), once); err != nil || !once {
			return err
		}
		return errSeen
	})
	if errors.Is(err, errSeen) || ctx.Err() != nil && !once {
		return nil
	}
	return err
}

func newTopView(name string, info *guestv1.SystemInfoResponse, before, m *guestv1.SystemMetricsResponse, execs []*guestv1.ExecInfo) topView {
	v := topView{
		Env: name, Time: m.GetTime().AsTime(), CPUs: info.GetCpus(), Tasks: m.GetTasks(),
		MemoryTotalBytes: info.GetMemoryTotalBytes(), MemoryUsedBytes: info.GetMemoryTotalBytes() - min(info.GetMemoryTotalBytes(), m.GetMemoryAvailableBytes()),
		DiskTotalBytes: info.GetDiskTotalBytes(), DiskUsedBytes: info.GetDiskTotalBytes() - min(info.GetDiskTotalBytes(), m.GetDiskFreeBytes()),
		Execs: []topExec{},
	}
	if span := m.GetTime().AsTime().Sub(before.GetTime().AsTime()).Seconds(); span > 0 {
		v.CPUPercent = 100 * (m.GetCpuTime().AsDuration() - before.GetCpuTime().AsDuration()).Seconds() / span
		v.ReceivedBytesPerSec = rate(before.GetNetworkReceivedBytes(), m.GetNetworkReceivedBytes(), span)
		v.SentBytesPerSec = rate(before.GetNetworkSentBytes(), m.GetNetworkSentBytes(), span)
	}
	for _, x := range execs {
		v.Execs = append(v.Execs, topExec{
			ExecID: x.GetExecId(), State: execState(x), Pid: x.GetPid(), Processes: x.GetProcesses(), StartedAt: x.GetStartedAt().AsTime(),
			StdoutBytes: x.GetStdoutBytes(), StderrBytes: x.GetStderrBytes(), Followers: x.GetFollowers(),
			Command: printable(x.GetCommand()),
		})
	}
	return v
}

func rate(before, after uint64, seconds float64) float64 {
	return float64(after-min(after, before)) / seconds
}

// execState is how a command stands, in a few words.
func execState(x *guestv1.ExecInfo) string {
	if x.GetExited() == nil && x.GetMainExited() != nil {
		return fmt.Sprintf("%s, %d left", endState(x.GetMainExited()), x.GetProcesses())
	}
	return endState(x.GetExited())
}

func endState(e *guestv1.Exited) string {
	switch o := e.GetOutcome().(type) {
	case *guestv1.Exited_ExitCode:
		return fmt.Sprintf("exit %d", o.ExitCode)
	case *guestv1.Exited_Signal:
		return fmt.Sprintf("signal %d", o.Signal)
	case *guestv1.Exited_SpawnFailure:
		return "not started"
	}
	return "running"
}

func (c *topCmd) show(out io.Writer, v topView, once bool) error {
	if c.JSON {
		return json.NewEncoder(out).Encode(v)
	}
	if !once {
		fmt.Fprint(out, "\x1b[H\x1b[2J")
	}
	fmt.Fprintf(out, "%s  CPU %.0f %% of %d  memory %s of %s  disk %s of %s  tasks %d  network in %s/s out %s/s\n\n",
		v.Env, v.CPUPercent, v.CPUs, humanize.IBytes(v.MemoryUsedBytes), humanize.IBytes(v.MemoryTotalBytes),
		humanize.IBytes(v.DiskUsedBytes), humanize.IBytes(v.DiskTotalBytes), v.Tasks,
		humanize.IBytes(uint64(v.ReceivedBytesPerSec)), humanize.IBytes(uint64(v.SentBytesPerSec)))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "EXEC\tSTATE\tPID\tAGE\tSTDOUT\tSTDERR\tFOLLOWERS\tCOMMAND")
	for _, x := range v.Execs {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%.60s\n", printable(x.ExecID), x.State, x.Pid,
			v.Time.Sub(x.StartedAt).Round(time.Second), humanize.IBytes(x.StdoutBytes), humanize.IBytes(x.StderrBytes),
			x.Followers, x.Command)
	}
	return w.Flush()
}
