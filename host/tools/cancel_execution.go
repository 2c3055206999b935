// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"

	"github.com/stacklok/waggle/host/environment"
)

var cancelExecution = spec{
	name: "cancel_execution", title: "Cancel execution",
	description: "Ends an execution with everything that it started, and returns how it ended when no process of it is left. The environment stays. One that has ended stays as it is.",
	destructive: true, idempotent: true,
	bounds: func(*environment.Manager) parameters {
		return parameters{"execution_id": executionBounds}
	},
}

type cancelExecutionInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	ExecutionID   string `json:"execution_id" jsonschema_description:"The execution, as execute returned it."`
}

type cancelExecutionOutput struct{ ending }

func (t *tools) cancelExecution(ctx context.Context, _ *call, in cancelExecutionInput) (cancelExecutionOutput, string, error) {
	r, err := t.manager.CancelExecution(ctx, in.EnvironmentID, in.ExecutionID)
	if err != nil {
		return cancelExecutionOutput{}, "", err
	}
	out := cancelExecutionOutput{endingOf(r)}
	return out, out.text(), nil
}
