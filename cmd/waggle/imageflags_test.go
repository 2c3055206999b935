// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/supervisor"
)

// TestFetchFlags: a file that somebody named is there and can be read, or the setting is
// named.
func TestFetchFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	require.NoError(t, os.WriteFile(policy, []byte(`{"default":[{"type":"reject"}]}`), 0o600))
	require.NoError(t, fetchFlags{}.check())
	require.NoError(t, fetchFlags{ImagePolicy: policy, AuthFile: policy}.check())
	require.ErrorContains(t, fetchFlags{AuthFile: filepath.Join(dir, "none")}.check(), "WAGGLE_AUTH_FILE (--authfile)")
	require.ErrorContains(t, fetchFlags{ImagePolicy: filepath.Join(dir, "none")}.check(), "WAGGLE_IMAGE_POLICY (--image-policy)")

	f := checkPolicy(policy)
	require.Equal(t, statusOK, f.Status)
	require.Equal(t, policy+": any image needs reject", f.Detail)
	require.NoError(t, os.WriteFile(policy, []byte(`{}`), 0o600))
	require.ErrorContains(t, fetchFlags{ImagePolicy: policy}.check(), "Default policy is missing")
	f = checkPolicy(policy)
	require.Equal(t, statusMissing, f.Status)
	require.Contains(t, f.Remedy, "WAGGLE_IMAGE_POLICY")
}

// TestPsDigest: ps --json tells what was booted by its content.
func TestPsDigest(t *testing.T) {
	t.Parallel()
	spec := supervisor.Spec{Image: "a:latest", ImageDigest: "sha256:abc"}
	r := row(t.Context(), supervisor.Listed{ID: "env-a", Record: &supervisor.Record{Spec: spec}})
	require.Equal(t, "sha256:abc", r.ImageDigest)
}
