// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// refusals holds that a caller's mistakes come back as words to act on. id is an
// environment that runs.
func refusals(t *testing.T, c *Session, id string) {
	t.Helper()
	for _, tt := range []struct {
		name, tool string
		args       map[string]any
		want       string
	}{
		{"unknown runtime", "create_environment", map[string]any{"runtime": "cobol"}, "python"},
		{"unknown id", "execute", map[string]any{"environment_id": "env-aaaaaaaa", "code": "1"}, "list_environments"},
		{"malformed id", "execute", map[string]any{"environment_id": "../x", "code": "1"}, "environment_id"},
		{"empty code", "execute", map[string]any{"environment_id": id, "code": ""}, "code"},
		{"negative timeout", "execute", map[string]any{"environment_id": id, "code": "1", "timeout_seconds": -1}, "timeout_seconds"},
		{"huge timeout", "execute", map[string]any{"environment_id": id, "code": "1", "timeout_seconds": 1e9}, "300"},
		{"code of another type", "execute", map[string]any{"environment_id": id, "code": []int{1}}, "code must be a string"},
		{"timeout of another type", "execute", map[string]any{"environment_id": id, "code": "1", "timeout_seconds": "5"}, "timeout_seconds must be"},
		{"misspelt parameter", "execute", map[string]any{"environment_id": id, "code": "1", "timeout": 5}, "timeout_seconds"},
		{"relative path", "read_file", map[string]any{"environment_id": id, "path": "a.txt"}, "absolute"},
	} {
		require.Contains(t, strings.ToLower(c.Refused(t, tt.tool, tt.args)), tt.want, tt.name)
	}
}

// hugeOutput writes 100 MiB. The beginning and the end come back, and what lies
// between is counted: no client and no server has to hold it.
func hugeOutput(t *testing.T, c *Session, id string) {
	t.Helper()
	const size = 100 << 20
	var ran struct {
		Stdout, Stderr string
		ExitCode       int   `json:"exit_code"`
		StdoutBytes    int64 `json:"stdout_bytes"`
		StdoutCutBytes int64 `json:"stdout_cut_bytes"`
		Truncated      bool
	}
	c.Call(t, "execute", map[string]any{
		"environment_id": id, "language": "shell", "timeout_seconds": 200,
		"code": "echo begin; head -c 104857600 /dev/zero | tr '\\0' .; echo; echo end; echo fine >&2; exit 5",
	}, &ran)
	require.Equal(t, 5, ran.ExitCode)
	require.Equal(t, "fine\n", ran.Stderr)
	require.EqualValues(t, size+len("begin\n\nend\n"), ran.StdoutBytes)
	require.True(t, ran.Truncated)
	require.True(t, strings.HasPrefix(ran.Stdout, "begin\n...."), "%.20q", ran.Stdout)
	require.True(t, strings.HasSuffix(ran.Stdout, "....\nend\n"))
	require.Less(t, len(ran.Stdout), 2<<20)
	require.Greater(t, ran.StdoutCutBytes, int64(size-2<<20))
}
