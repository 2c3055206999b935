// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/stacklok/waggle/host/environment"
)

var createEnvironment = spec{
	name: "create_environment", title: "Create environment",
	description: "Creates an isolated Linux virtual machine of a runtime or of an OCI image, and returns its environment_id. " +
		"Takes some seconds, and longer when an image is used for the first time. Commands run as an ordinary user with network access.",
	bounds: func(m *environment.Manager) parameters {
		cpus, memory := m.MaxSize()
		return parameters{
			"runtime": {
				"enum": m.Runtimes(),
				"description": fmt.Sprintf("What the environment is for: %s. Default, when image is not given either: %s.",
					strings.Join(m.Runtimes(), ", "), environment.DefaultRuntime),
			},
			"image": {"minLength": 1, "maxLength": environment.MaxImage},
			"name":  {"maxLength": environment.MaxName},
			"cpus":  {"minimum": 1, "maximum": int(cpus), "description": fmt.Sprintf("Virtual CPUs, 1 to %d.", cpus)},
			"memory_mb": {
				"minimum": environment.MinMemoryMiB, "maximum": int(memory),
				"description": fmt.Sprintf("Memory in MiB, %d to %d.", environment.MinMemoryMiB, memory),
			},
			"network":         {"enum": environment.Networks()},
			"idempotency_key": {"minLength": 1, "maxLength": environment.MaxKey},
			"timeout_minutes": {
				"minimum": 1, "maximum": int(environment.MaxIdle.Minutes()),
				"description": fmt.Sprintf("Minutes without activity after which the environment ends, 1 to %d. Default: %g.",
					int(environment.MaxIdle.Minutes()), m.IdleDefault().Minutes()),
			},
		}
	},
}

type createEnvironmentInput struct {
	Runtime        string `json:"runtime,omitempty"`
	Image          string `json:"image,omitempty" jsonschema_description:"In place of runtime: an OCI image, such as docker.io/library/golang:1.25, registry/name@sha256:… or a name in the server's store. Its variables, user and working directory apply."`
	Name           string `json:"name,omitempty" jsonschema_description:"A name for people, at most 64 characters."`
	TimeoutMinutes *int64 `json:"timeout_minutes,omitempty"`

	CPUs           *int64            `json:"cpus,omitempty"`
	MemoryMB       *int64            `json:"memory_mb,omitempty"`
	Env            map[string]string `json:"env,omitempty" jsonschema_description:"Variables of all its commands, on top of the image's."`
	Network        string            `json:"network,omitempty" jsonschema_description:"open (default): the internet, and nothing of the host or its networks. none: nothing."`
	IdempotencyKey string            `json:"idempotency_key,omitempty" jsonschema_description:"A call that is repeated with the same key and parameters returns the environment of the first one, until that has ended."`
}

// environmentOutput describes an environment wherever one is returned.
type environmentOutput struct {
	EnvironmentID  string    `json:"environment_id" jsonschema_description:"The handle that all other tools take."`
	Name           string    `json:"name"`
	Runtime        string    `json:"runtime,omitempty" jsonschema_description:"Missing when it was made of an image by name."`
	Image          string    `json:"image,omitempty" jsonschema_description:"The image that it was made of."`
	ImageDigest    string    `json:"image_digest,omitempty" jsonschema_description:"Digest of the image's manifest."`
	GuestdOrigin   string    `json:"guestd_origin,omitempty" jsonschema_description:"Whose agent serves it: host, or image where that brings one that fits."`
	GuestdVersion  string    `json:"guestd_version,omitempty"`
	GuestdNote     string    `json:"guestd_note,omitempty" jsonschema_description:"Why the agent that the image brings is not used."`
	User           string    `json:"user,omitempty" jsonschema_description:"Who runs its commands."`
	WorkingDir     string    `json:"working_dir,omitempty" jsonschema_description:"Where its code runs."`
	Languages      []string  `json:"languages,omitempty" jsonschema_description:"Languages that execute found when it was made; the first is the default."`
	Managers       []string  `json:"package_managers,omitempty" jsonschema_description:"Package managers that install_packages found when it was made."`
	State          string    `json:"state" jsonschema_description:"creating, running, stopping or failed."`
	Cause          string    `json:"cause,omitempty" jsonschema_description:"Why it failed, or why a running one stands still."`
	CreatedAt      time.Time `json:"created_at"`
	TimeoutMinutes float64   `json:"timeout_minutes" jsonschema_description:"Minutes without activity after which it ends."`
	CPUs           int       `json:"cpus"`
	MemoryMB       int       `json:"memory_mb"`
}

func outputOf(i environment.Info) environmentOutput {
	return environmentOutput{
		EnvironmentID: i.ID, Name: i.Name, Runtime: i.Runtime, Image: i.Image, ImageDigest: i.ImageDigest,
		GuestdOrigin: i.GuestdOrigin, GuestdVersion: i.GuestdVersion, GuestdNote: i.GuestdNote,
		User: i.User, WorkingDir: i.Dir, Languages: i.Languages, Managers: i.Managers, State: string(i.State), Cause: i.Cause,
		CreatedAt: i.CreatedAt.UTC(), TimeoutMinutes: i.Idle.Minutes(), CPUs: int(i.CPUs), MemoryMB: int(i.MemoryMiB),
	}
}

func (t *tools) createEnvironment(ctx context.Context, c *call, in createEnvironmentInput) (environmentOutput, string, error) {
	info, err := t.manager.Create(ctx, environment.CreateOptions{
		Runtime: in.Runtime, Image: in.Image, Name: in.Name, Idle: timeout(in.TimeoutMinutes, time.Minute),
		CPUs: size(in.CPUs), MemoryMiB: size(in.MemoryMB), Env: in.Env, Network: in.Network, Key: in.IdempotencyKey,
	}, c.progress)
	if err != nil {
		return environmentOutput{}, "", err
	}
	return outputOf(info), createText(info), nil
}

// size is a number of the caller's: what is not one is beyond any bound.
func size(n *int64) uint32 {
	switch v := given(n); {
	case v < 0 || v > math.MaxUint32:
		return math.MaxUint32
	default:
		return uint32(v)
	}
}

// createText says what a caller needs for the next call.
func createText(info environment.Info) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Environment %s (%s) is running. ", info.ID, kindOf(info))
	if info.Dir != "" {
		fmt.Fprintf(&b, "Working directory: %s. ", info.Dir)
	}
	switch {
	case len(info.Languages) > 0:
		fmt.Fprintf(&b, "Languages: %s. ", strings.Join(info.Languages, ", "))
	case info.Languages != nil:
		b.WriteString("It has no interpreter that execute knows; files can be written and read. ")
	}
	if len(info.Managers) > 0 {
		fmt.Fprintf(&b, "Package managers: %s. ", strings.Join(info.Managers, ", "))
	}
	fmt.Fprintf(&b, "It ends after %g minutes without activity.", info.Idle.Minutes())
	return b.String()
}

// kindOf is the runtime, or else the image, of an environment.
func kindOf(info environment.Info) string {
	if info.Runtime != "" {
		return info.Runtime
	}
	return info.Image
}
