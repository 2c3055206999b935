// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/stacklok/waggle/host/environment"
)

var getEnvironment = spec{
	name: "get_environment", title: "Describe environment",
	description: "Describes one environment: its state, what it is made of, what it uses now, and, when it has failed, why and its last console lines.",
	readOnly:    true, idempotent: true,
}

type getEnvironmentInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
}

type getEnvironmentOutput struct {
	environmentOutput

	Usage   *usageOutput `json:"usage,omitempty" jsonschema_description:"What it uses now, while it runs."`
	NoUsage string       `json:"no_usage,omitempty" jsonschema_description:"Why that is not known."`
	Console string       `json:"console,omitempty" jsonschema_description:"The last lines of the console of one that has failed."`
}

type usageOutput struct {
	MemoryUsedMB int     `json:"memory_used_mb"`
	MemoryMB     int     `json:"memory_total_mb"`
	DiskUsedMB   int     `json:"disk_used_mb"`
	DiskMB       int     `json:"disk_total_mb"`
	Processes    int     `json:"processes" jsonschema_description:"Those of the kernel included."`
	Executions   int     `json:"executions" jsonschema_description:"Commands that run now."`
	UptimeS      float64 `json:"uptime_seconds"`
}

func (t *tools) getEnvironment(ctx context.Context, _ *call, in getEnvironmentInput) (getEnvironmentOutput, string, error) {
	d, err := t.manager.Inspect(ctx, in.EnvironmentID)
	if err != nil {
		return getEnvironmentOutput{}, "", err
	}
	out := getEnvironmentOutput{environmentOutput: outputOf(d.Info), NoUsage: d.NoUsage, Console: d.Console}
	var text strings.Builder
	fmt.Fprintf(&text, "%s (%s) is %s.", d.ID, kindOf(d.Info), d.State)
	if d.Cause != "" {
		fmt.Fprintf(&text, " Cause: %s.", d.Cause)
	}
	if u := d.Usage; u != nil {
		out.Usage = usageOf(u)
		fmt.Fprintf(&text, " Memory: %d of %d MiB, disk: %d of %d MiB, %d commands running.",
			out.Usage.MemoryUsedMB, out.Usage.MemoryMB, out.Usage.DiskUsedMB, out.Usage.DiskMB, u.Executions)
	}
	if d.Console != "" {
		text.WriteString(" The last lines of its console:\n" + d.Console)
	}
	return out, text.String(), nil
}

func usageOf(u *environment.Usage) *usageOutput {
	used := func(total, free uint64) int { return int((total - min(free, total)) >> 20) }
	return &usageOutput{
		MemoryUsedMB: used(u.MemoryTotal, u.MemoryAvailable), MemoryMB: int(u.MemoryTotal >> 20),
		DiskUsedMB: used(u.DiskTotal, u.DiskFree), DiskMB: int(u.DiskTotal >> 20),
		Processes: u.Processes, Executions: u.Executions, UptimeS: u.Uptime.Seconds(),
	}
}
