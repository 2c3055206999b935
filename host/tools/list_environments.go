// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"strings"
)

var listEnvironments = spec{
	name: "list_environments", title: "List environments",
	description: "Lists all environments of this server with their state, oldest first.",
	readOnly:    true, idempotent: true,
}

type listEnvironmentsInput struct{}

type listEnvironmentsOutput struct {
	Environments    []environmentOutput `json:"environments"`
	MaxEnvironments int                 `json:"max_environments" jsonschema_description:"Most environments at once."`
}

func (t *tools) listEnvironments(context.Context, *call, listEnvironmentsInput) (listEnvironmentsOutput, string, error) {
	out := listEnvironmentsOutput{Environments: []environmentOutput{}, MaxEnvironments: t.manager.Max()}
	var text strings.Builder
	for _, info := range t.manager.List() {
		e := outputOf(info)
		out.Environments = append(out.Environments, e)
		fmt.Fprintf(&text, "%s %s %s %s %s\n", e.EnvironmentID, e.Runtime, e.State, e.Name, e.Cause)
	}
	if len(out.Environments) == 0 {
		return out, "There are no environments; create_environment makes one.", nil
	}
	return out, text.String(), nil
}
