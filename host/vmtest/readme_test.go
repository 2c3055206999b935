// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// readmeCommands runs the curl commands of the README as they stand there, but
// for the server's address: what a newcomer pastes works.
func readmeCommands(t *testing.T, s *Server) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	const address = "http://127.0.0.1:8080/mcp"
	var answers []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		require.Contains(t, line, address)
		out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(line, address, s.URL, 1)).Output()
		require.NoError(t, err, line)
		answers = append(answers, string(out))
	}
	require.Len(t, answers, 2)
	var initialized struct {
		Result struct {
			ProtocolVersion string `json:"protocolVersion"`
			ServerInfo      struct{ Name string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(answers[0]), &initialized), answers[0])
	require.Equal(t, "2025-11-25", initialized.Result.ProtocolVersion)
	require.Equal(t, "waggle", initialized.Result.ServerInfo.Name)
	var listed struct {
		Result struct{ Tools []struct{ Name string } }
	}
	require.NoError(t, json.Unmarshal([]byte(answers[1]), &listed), answers[1])
	theEight(t, listed.Result.Tools)
}

// theEight are the tools that clients of the SSH-based server know. Others come on top.
func theEight(t *testing.T, tools []struct{ Name string }) {
	t.Helper()
	names := make([]string, 0, len(tools))
	for _, tool := range tools {
		names = append(names, tool.Name)
	}
	require.Subset(t, names, []string{
		"create_environment", "destroy_environment", "list_environments", "execute", "install_packages",
		"write_file", "read_file", "list_files",
	})
}
