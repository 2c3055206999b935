// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stacklok/waggle/host/environment"
)

var execute = spec{
	name: "execute", title: "Run code",
	description: "Runs code, or a command, in an environment and returns stdout, stderr and the exit code; an exit code other than 0 is a normal result. " +
		"Each call is a new process in the environment's working directory; processes that it leaves behind are ended. " +
		"What should run on goes in the background: get_execution follows it, cancel_execution ends it.",
	destructive: true, openWorld: true,
	bounds: func(m *environment.Manager) parameters {
		def, most := m.ExecTimeouts()
		return parameters{
			"code":    {"minLength": 1, "maxLength": environment.MaxCode},
			"command": {"minItems": 1, "maxItems": environment.MaxCommand},
			"language": {
				"enum": m.Runtimes(),
				"description": "What the code is written in. Default: the environment's runtime, or, if it was made of an image, " +
					"the first of the languages that create_environment returned.",
			},
			"cwd":          pathBounds,
			"env":          {"maxProperties": environment.MaxEnv},
			"stdin":        {"maxLength": environment.MaxStdin},
			"execution_id": executionBounds,
			"timeout_seconds": {
				"minimum": 1, "maximum": int(most.Seconds()),
				"description": fmt.Sprintf("Seconds after which the code and everything it started is ended, 1 to %d. Default: %g, in the background %[1]d.",
					int(most.Seconds()), def.Seconds()),
			},
		}
	},
}

// executionBounds are those of the name of an execution.
var executionBounds = bounds{"minLength": 1, "maxLength": environment.MaxExecutionID, "pattern": environment.ExecutionIDPattern}

type executeInput struct {
	EnvironmentID  string            `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Code           *string           `json:"code,omitempty" jsonschema_description:"The source to run. May have many lines. Give either code or command."`
	Command        []string          `json:"command,omitempty" jsonschema_description:"A program with its arguments, such as [\"ls\", \"-l\"]; no shell reads them. In place of code."`
	Language       string            `json:"language,omitempty"`
	Cwd            string            `json:"cwd,omitempty" jsonschema_description:"Absolute path of the directory to run in. Default: the environment's working directory."`
	Env            map[string]string `json:"env,omitempty" jsonschema_description:"More environment variables."`
	Stdin          string            `json:"stdin,omitempty" jsonschema_description:"Text for standard input. Default: there is none."`
	AsRoot         bool              `json:"as_root,omitempty" jsonschema_description:"Run as root. Default: as the environment's ordinary user."`
	Background     bool              `json:"background,omitempty" jsonschema_description:"Return at once, with the execution_id, and let it run on."`
	ExecutionID    string            `json:"execution_id,omitempty" jsonschema_description:"A name for this execution: called again with the same name and input, execute continues with it and does not run it twice. Default: a new one."`
	TimeoutSeconds *int64            `json:"timeout_seconds,omitempty"`
}

func (t *tools) execute(ctx context.Context, c *call, in executeInput) (executeOutput, string, error) {
	if in.Code == nil && in.Command == nil {
		return executeOutput{}, "", invalid("code is missing: give the source to run, or a program with its arguments as command")
	}
	req := environment.ExecRequest{
		Command: in.Command, Language: in.Language, Cwd: in.Cwd, Env: in.Env, Stdin: in.Stdin, AsRoot: in.AsRoot,
		Background: in.Background, ExecutionID: in.ExecutionID, Timeout: timeout(in.TimeoutSeconds, time.Second),
	}
	if in.Code != nil {
		req.Code = *in.Code
	}
	if c.wantsProgress() && !in.Background {
		budget := maxProgressOutput
		req.Output = func(_ bool, p []byte) {
			// The whole comes with the result: progress is for watching.
			p = p[:min(len(p), budget)]
			budget -= len(p)
			c.progress(strings.ToValidUTF8(string(p), "\uFFFD"))
		}
	}
	r, err := t.manager.Exec(ctx, in.EnvironmentID, req)
	if err != nil {
		return executeOutput{}, "", err
	}
	out := executeOutputOf(r)
	out.Language = r.Language
	out.Stdout, out.StdoutBytes, out.StdoutCutBytes = r.Stdout.Text, r.Stdout.Bytes, r.Stdout.CutBytes
	out.Stderr, out.StderrBytes, out.StderrCutBytes = r.Stderr.Text, r.Stderr.Bytes, r.Stderr.CutBytes
	out.Truncated = r.Stdout.CutBytes+r.Stderr.CutBytes > 0
	if r.Stdout.CutBytes > 0 {
		out.StdoutURI = c.linkOutput(in.EnvironmentID, r.ExecutionID, streamStdout, r.Stdout.Bytes)
	}
	if r.Stderr.CutBytes > 0 {
		out.StderrURI = c.linkOutput(in.EnvironmentID, r.ExecutionID, streamStderr, r.Stderr.Bytes)
	}
	return out, executeText(out), nil
}

// maxProgressOutput is the most output that one call sends as progress, in bytes.
const maxProgressOutput = 64 << 10
