// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/stacklok/waggle/host/environment"
)

var installPackages = spec{
	name: "install_packages", title: "Install packages",
	description: "Installs packages in an environment: with pip in a python environment, npm in a node one, and elsewhere with the first of pip, npm, apt, apk and dnf that is there, or with the manager named.",
	idempotent:  true, openWorld: true,
	bounds: func(*environment.Manager) parameters {
		return parameters{"packages": {
			"minLength": 1,
			"description": fmt.Sprintf("Names separated by spaces, at most %d, with versions as the manager writes them, such as: numpy pandas==2.2.0",
				environment.MaxPackages),
		}}
	},
}

type installPackagesInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Packages      string `json:"packages"`
	Manager       string `json:"manager,omitempty" jsonschema:"enum=pip,enum=npm,enum=apt,enum=apk,enum=dnf" jsonschema_description:"The package manager. Default: the one of the runtime or image."`
}

type installPackagesOutput struct {
	Manager    string   `json:"manager"`
	Installed  []string `json:"installed" jsonschema_description:"Name and version of what was installed, where the manager says it."`
	DurationMS int64    `json:"duration_ms"`
}

func (t *tools) installPackages(ctx context.Context, c *call, in installPackagesInput) (installPackagesOutput, string, error) {
	r, err := t.manager.InstallPackages(ctx, in.EnvironmentID, environment.InstallRequest{
		Packages: strings.Fields(in.Packages), Manager: in.Manager, Line: c.progress,
	})
	if err != nil {
		return installPackagesOutput{}, "", err
	}
	out := installPackagesOutput{Manager: r.Manager, Installed: r.Installed, DurationMS: r.Duration.Milliseconds()}
	text := fmt.Sprintf("%s finished after %.1f s.", r.Manager, r.Duration.Seconds())
	if len(r.Installed) > 0 {
		text += " Installed: " + strings.Join(r.Installed, ", ")
	}
	return out, text, nil
}
