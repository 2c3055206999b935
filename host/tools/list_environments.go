// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"slices"
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

func (t *tools) listEnvironments(ctx context.Context, _ *call, _ listEnvironmentsInput) (listEnvironmentsOutput, string, error) {
	out := listEnvironmentsOutput{Environments: []environmentOutput{}, MaxEnvironments: t.manager.Max()}
	var lines []string
	for _, info := range t.manager.List(ctx) {
		e := outputOf(info)
		out.Environments = append(out.Environments, e)
		words := []string{e.EnvironmentID, kindOf(info), e.State, e.Name, e.Cause}
		words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
		lines = append(lines, strings.Join(words, " "))
	}
	if len(out.Environments) == 0 {
		return out, "There are no environments; create_environment makes one.", nil
	}
	return out, strings.Join(lines, "\n"), nil
}
