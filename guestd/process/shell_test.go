// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/guestd/process/spawn"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// TestWithoutShell: an image without a shell is said so, for a script alone.
func TestWithoutShell(t *testing.T) {
	t.Parallel()
	missing := func() error {
		return &spawn.Failure{Kind: guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND, Message: "program /bin/sh: no such file"}
	}
	script := &guestv1.Start{Command: &guestv1.Start_Shell{Shell: "true"}}
	require.ErrorContains(t, withoutShell(script, missing()), "this image has none; give program and arguments")
	program := &guestv1.Start{Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"/x"}}}}
	require.NotContains(t, withoutShell(program, missing()).Error(), "shell form")
	require.NotContains(t, withoutShell(script, &spawn.Failure{Message: "no memory"}).Error(), "shell form")
}
