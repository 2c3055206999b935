// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stacklok/waggle/host/environment"
)

var getExecution = spec{
	name: "get_execution", title: "Get execution",
	description: "Says whether an execution still runs or how it ended, and returns what it wrote from the offsets on: give the next offsets of the last answer to get only what is new. " +
		"An execution is kept for a while after its end.",
	readOnly: true, idempotent: true,
	bounds: func(*environment.Manager) parameters {
		most := int(environment.MaxWait.Seconds())
		return parameters{
			"execution_id": executionBounds,
			"wait_seconds": {
				"minimum": 0, "maximum": most,
				"description": fmt.Sprintf("Seconds to wait for the end, or for output beyond the offsets, 0 to %d. Default: 0.", most),
			},
			"stdout_offset": {"minimum": 0}, "stderr_offset": {"minimum": 0},
			"limit": {
				"minimum": 1, "maximum": environment.MaxPiece,
				"description": fmt.Sprintf("Most bytes of each stream, 1 to %d. Default: %d.", environment.MaxPiece, environment.DefaultPiece),
			},
		}
	},
}

// maxWaitSeconds is beyond what the manager takes, and is not too long for a Duration.
const maxWaitSeconds = 1 << 30

type getExecutionInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	ExecutionID   string `json:"execution_id" jsonschema_description:"The execution, as execute returned it."`
	WaitSeconds   int64  `json:"wait_seconds,omitempty"`
	StdoutOffset  int64  `json:"stdout_offset,omitempty" jsonschema_description:"First byte of stdout to return. Default 0."`
	StderrOffset  int64  `json:"stderr_offset,omitempty" jsonschema_description:"First byte of stderr to return. Default 0."`
	Limit         *int64 `json:"limit,omitempty"`
}

type getExecutionOutput struct {
	ending
	Stdout           string `json:"stdout" jsonschema_description:"Text: bytes that are not UTF-8 are U+FFFD."`
	Stderr           string `json:"stderr"`
	StdoutOffset     int64  `json:"stdout_offset" jsonschema_description:"Where stdout begins here: beyond the offset asked for when what was there is no longer kept."`
	StderrOffset     int64  `json:"stderr_offset"`
	StdoutNextOffset int64  `json:"stdout_next_offset" jsonschema_description:"Where to go on reading."`
	StderrNextOffset int64  `json:"stderr_next_offset"`
	StdoutBytes      int64  `json:"stdout_bytes" jsonschema_description:"Bytes written to stdout so far."`
	StderrBytes      int64  `json:"stderr_bytes"`
	Truncated        bool   `json:"truncated" jsonschema_description:"More was written than is here: read on from the next offsets."`
}

func (t *tools) getExecution(ctx context.Context, _ *call, in getExecutionInput) (getExecutionOutput, string, error) {
	s, err := t.manager.GetExecution(ctx, in.EnvironmentID, in.ExecutionID, environment.ExecutionQuery{
		Wait: time.Duration(max(-1, min(in.WaitSeconds, maxWaitSeconds))) * time.Second, StdoutOffset: in.StdoutOffset, StderrOffset: in.StderrOffset, Limit: given(in.Limit),
	})
	if err != nil {
		return getExecutionOutput{}, "", err
	}
	out := getExecutionOutput{
		ending: endingOf(s.ExecResult), Stdout: pieceText(s.Stdout), Stderr: pieceText(s.Stderr),
		StdoutOffset: s.Stdout.Offset, StderrOffset: s.Stderr.Offset,
		StdoutNextOffset: s.Stdout.Next, StderrNextOffset: s.Stderr.Next,
		StdoutBytes: s.Stdout.Bytes, StderrBytes: s.Stderr.Bytes,
		Truncated: s.Stdout.Next < s.Stdout.Bytes || s.Stderr.Next < s.Stderr.Bytes,
	}
	text := out.text(
		note{s.Stdout.Next < s.Stdout.Bytes, fmt.Sprintf("stdout goes on: %d of %d bytes so far", s.Stdout.Next, s.Stdout.Bytes)},
		note{s.Stderr.Next < s.Stderr.Bytes, fmt.Sprintf("stderr goes on: %d of %d bytes so far", s.Stderr.Next, s.Stderr.Bytes)},
		note{s.Stdout.Next > 0 || s.Stderr.Next > 0, fmt.Sprintf("next offsets: stdout %d, stderr %d", s.Stdout.Next, s.Stderr.Next)},
	)
	return out, text + streamsText(out.Stdout, out.Stderr), nil
}

func pieceText(p environment.Piece) string { return strings.ToValidUTF8(string(p.Data), "\uFFFD") }
