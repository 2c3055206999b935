// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"time"

	"github.com/stacklok/waggle/host/environment"
)

var createEnvironment = spec{
	name: "create_environment", title: "Create environment",
	description: "Creates an isolated Linux virtual machine with Python, Node.js or a shell, and returns its environment_id. " +
		"Takes some seconds. Commands run as an ordinary user with network access.",
	bounds: func(m *environment.Manager) parameters {
		return parameters{
			"name": {"maxLength": environment.MaxName},
			"timeout_minutes": {
				"minimum": 1, "maximum": int(environment.MaxIdle.Minutes()),
				"description": fmt.Sprintf("Minutes without activity after which the environment ends, 1 to %d. Default: %g.",
					int(environment.MaxIdle.Minutes()), m.IdleDefault().Minutes()),
			},
		}
	},
}

type createEnvironmentInput struct {
	Runtime        string `json:"runtime" jsonschema:"enum=python,enum=node,enum=shell" jsonschema_description:"What the environment is for: python, node or shell."`
	Name           string `json:"name,omitempty" jsonschema_description:"A name for people, at most 64 characters."`
	TimeoutMinutes *int64 `json:"timeout_minutes,omitempty"`
}

// environmentOutput describes an environment wherever one is returned.
type environmentOutput struct {
	EnvironmentID  string    `json:"environment_id" jsonschema_description:"The handle that all other tools take."`
	Name           string    `json:"name"`
	Runtime        string    `json:"runtime"`
	State          string    `json:"state" jsonschema_description:"creating, running, stopping or failed."`
	Cause          string    `json:"cause,omitempty" jsonschema_description:"Why it failed, or why a running one stands still."`
	CreatedAt      time.Time `json:"created_at"`
	TimeoutMinutes float64   `json:"timeout_minutes" jsonschema_description:"Minutes without activity after which it ends."`
	CPUs           int       `json:"cpus"`
	MemoryMB       int       `json:"memory_mb"`
}

func outputOf(i environment.Info) environmentOutput {
	return environmentOutput{
		EnvironmentID: i.ID, Name: i.Name, Runtime: i.Runtime, State: string(i.State), Cause: i.Cause,
		CreatedAt: i.CreatedAt.UTC(), TimeoutMinutes: i.Idle.Minutes(), CPUs: int(i.CPUs), MemoryMB: int(i.MemoryMiB),
	}
}

func (t *tools) createEnvironment(ctx context.Context, c *call, in createEnvironmentInput) (environmentOutput, string, error) {
	info, err := t.manager.Create(ctx, environment.CreateOptions{
		Runtime: in.Runtime, Name: in.Name, Idle: timeout(in.TimeoutMinutes, time.Minute),
	}, c.progress)
	if err != nil {
		return environmentOutput{}, "", err
	}
	text := fmt.Sprintf("Environment %s (%s) is running. Working directory: %s. It ends after %g minutes without activity.",
		info.ID, info.Runtime, environment.Home, info.Idle.Minutes())
	return outputOf(info), text, nil
}
