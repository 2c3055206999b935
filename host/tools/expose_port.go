// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stacklok/waggle/host/environment"
)

var exposePort = spec{
	name: "expose_port", title: "Get a preview address",
	description: "Returns an address at which a browser on the user's side sees a web server that runs in an environment, WebSockets included. " +
		"Start the server first, in the background; it may listen on 127.0.0.1. Nothing becomes reachable that the address's holder could not reach.",
	readOnly: true, idempotent: true, openWorld: true,
	bounds: func(*environment.Manager) parameters {
		return parameters{"port": {"minimum": 1, "maximum": 65535}}
	},
}

type exposePortInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Port          int    `json:"port" jsonschema_description:"The TCP port that the web server listens on, 1 to 65535."`
}

type exposePortOutput struct {
	URL       string `json:"url" jsonschema_description:"For the user's browser; the environment itself cannot open it."`
	ExpiresAt string `json:"expires_at,omitempty" jsonschema_description:"When the address ends to be good (RFC 3339); without it, with the environment."`
	Listening bool   `json:"listening" jsonschema_description:"Something answers on the port now."`
}

func (t *tools) exposePort(ctx context.Context, _ *call, in exposePortInput) (exposePortOutput, string, error) {
	if err := environment.CheckPort(in.Port); err != nil {
		return exposePortOutput{}, "", err
	}
	if _, err := t.manager.Get(ctx, in.EnvironmentID); err != nil {
		return exposePortOutput{}, "", err
	}
	url, until, err := t.preview(ctx, in.EnvironmentID, in.Port)
	if err != nil {
		return exposePortOutput{}, "", fmt.Errorf("%w: %w", environment.ErrUnsupported, err)
	}
	out := exposePortOutput{URL: url, Listening: true}
	if !until.IsZero() {
		out.ExpiresAt = until.UTC().Format(time.RFC3339)
	}
	text := url
	conn, err := t.manager.Dial(ctx, in.EnvironmentID, in.Port)
	switch {
	case err == nil:
		_ = conn.Close()
	case errors.Is(err, environment.ErrNoPort):
		out.Listening = false
		text += fmt.Sprintf("\nNothing listens on port %d yet: start the server in the background.", in.Port)
	default:
		return exposePortOutput{}, "", err
	}
	return out, text, nil
}
