// SPDX-License-Identifier: Apache-2.0

package tools_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
	"github.com/stacklok/waggle/host/tools"
)

// TestSchemaBounds: a client learns the bounds of this server, not of the one that
// is shipped, and no parameter has a choice of types.
func TestSchemaBounds(t *testing.T) {
	t.Parallel()
	m, err := environment.New(environment.Config{
		Launch: envtest.NewFleet(t).Launch, Max: 1, Idle: 12 * time.Minute, ExecDefault: 7 * time.Second, ExecMax: 77 * time.Second,
	})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	s, err := tools.New(tools.Config{Manager: m})
	require.NoError(t, err)
	schemas := map[string]map[string]map[string]any{}
	for name, tool := range s.ListTools() {
		var schema struct {
			Properties           map[string]map[string]any
			AdditionalProperties any
		}
		require.NoError(t, json.Unmarshal(tool.Tool.RawInputSchema, &schema))
		require.NotNil(t, schema.Properties, name)
		require.NotNil(t, schema.AdditionalProperties, name)
		for p, property := range schema.Properties {
			require.IsType(t, "", property["type"], "%s of %s", p, name)
			require.NotEmpty(t, property["description"], "%s of %s", p, name)
			require.NotContains(t, property["description"], "shipped")
			if property["type"] == "integer" {
				require.Contains(t, property, "minimum", "%s of %s", p, name)
			}
		}
		schemas[name] = schema.Properties
	}
	for parameter, want := range map[string]map[string]any{
		"create_environment.name":            {"maxLength": 64.0},
		"create_environment.timeout_minutes": {"minimum": 1.0, "maximum": 1440.0, "description": "1 to 1440. Default: 12."},
		"execute.code":                       {"minLength": 1.0, "maxLength": 8388608.0},
		"execute.timeout_seconds":            {"minimum": 1.0, "maximum": 77.0, "description": "1 to 77. Default: 7, in the background 77."},
		"execute.command":                    {"minItems": 1.0, "maxItems": 1024.0, "type": "array"},
		"execute.env":                        {"maxProperties": 128.0, "type": "object"},
		"execute.stdin":                      {"maxLength": 1048576.0},
		"execute.cwd":                        {"minLength": 1.0, "maxLength": 4096.0},
		"execute.execution_id":               {"minLength": 1.0, "maxLength": 64.0, "pattern": "^[A-Za-z0-9._-]{1,64}$"},
		"get_execution.wait_seconds":         {"minimum": 0.0, "maximum": 300.0},
		"get_execution.limit":                {"minimum": 1.0, "maximum": 262144.0, "description": "1 to 262144. Default: 65536."},
		"get_execution.stdout_offset":        {"minimum": 0.0},
		"cancel_execution.execution_id":      {"minLength": 1.0, "maxLength": 64.0},
		"install_packages.packages":          {"minLength": 1.0, "description": "at most 100"},
		"write_file.path":                    {"minLength": 1.0, "maxLength": 4096.0},
		"read_file.path":                     {"minLength": 1.0, "maxLength": 4096.0},
		"read_file.offset":                   {"minimum": 0.0},
		"read_file.limit":                    {"minimum": 1.0, "maximum": 1048576.0, "description": "1 to 1048576. Default: 1048576."},
		"list_files.path":                    {"maxLength": 4096.0},
	} {
		tool, name, _ := strings.Cut(parameter, ".")
		for keyword, value := range want {
			if keyword == "description" {
				require.Contains(t, schemas[tool][name][keyword], value, parameter)
				continue
			}
			require.Equal(t, value, schemas[tool][name][keyword], "%s of %s", keyword, parameter)
		}
	}
}
