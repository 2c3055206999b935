// SPDX-License-Identifier: Apache-2.0

package tools

import "context"

var destroyEnvironment = spec{
	name: "destroy_environment", title: "Destroy environment",
	description: "Ends an environment and deletes everything in it. This cannot be undone.",
	destructive: true,
}

// environmentInput names an environment and nothing else.
type environmentInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
}

type destroyEnvironmentOutput struct {
	EnvironmentID string `json:"environment_id"`
	Destroyed     bool   `json:"destroyed"`
}

func (t *tools) destroyEnvironment(ctx context.Context, _ *call, in environmentInput) (destroyEnvironmentOutput, string, error) {
	if err := t.manager.Destroy(ctx, in.EnvironmentID); err != nil {
		return destroyEnvironmentOutput{}, "", err
	}
	return destroyEnvironmentOutput{EnvironmentID: in.EnvironmentID, Destroyed: true},
		"Environment " + in.EnvironmentID + " is destroyed; nothing of it is left.", nil
}
