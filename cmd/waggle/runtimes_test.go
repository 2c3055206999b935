// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
)

func TestRuntimesBySetting(t *testing.T) {
	t.Parallel()
	f := &vmFlags{ImageNode: "team/node"}
	images, settings, err := f.runtimes([]string{
		"WAGGLE_RUNTIME_PYTHON_EXEC_COMMAND=/opt/venv/bin/python3  -u", "WAGGLE_RUNTIME_PYTHON_INSTALL_COMMAND=",
		"WAGGLE_RUNTIME_DATA_2_IMAGE=quay.io/team/data:v1", "WAGGLE_RUNTIME_DATA_2_EXEC_COMMAND=/usr/bin/R -f",
		"WAGGLE_RUNTIME_RUBY_EXEC_COMMAND=/usr/bin/ruby", "WAGGLE_IMAGE_RUBY=ruby:3", "WAGGLE_RUNTIME_RUBY_EXTENSION=.rb",
		"WAGGLE_RUNTIME_RUBY_INSTALL_COMMAND=/usr/bin/gem install", "WAGGLE_IMAGE_SUITE=trixie", "PATH=/bin",
	})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"node": "team/node", "data_2": "quay.io/team/data:v1", "ruby": "ruby:3"}, images)
	require.Equal(t, map[string]environment.RuntimeSetting{
		"python": {Exec: []string{"/opt/venv/bin/python3", "-u"}},
		"data_2": {Exec: []string{"/usr/bin/R", "-f"}},
		"ruby":   {Exec: []string{"/usr/bin/ruby"}, Install: []string{"/usr/bin/gem", "install"}, Extension: ".rb"},
	}, settings)
}

func TestRuntimeSettingMistakes(t *testing.T) {
	t.Parallel()
	for want, environ := range map[string][]string{
		"set WAGGLE_RUNTIME_RUBY_IMAGE":        {"WAGGLE_RUNTIME_RUBY_EXEC_COMMAND=/usr/bin/ruby"},
		"set WAGGLE_RUNTIME_RUBY_EXEC_COMMAND": {"WAGGLE_RUNTIME_RUBY_IMAGE=ruby:3"},
		"absolute path":                        {"WAGGLE_RUNTIME_NODE_EXEC_COMMAND=node"},
		"has quotes":                           {"WAGGLE_RUNTIME_NODE_EXEC_COMMAND=/bin/sh -c 'node'"},
		"is no setting":                        {"WAGGLE_RUNTIME_NODE_COMMAND=/bin/node"},
		"WAGGLE_RUNTIME__IMAGE":                {"WAGGLE_RUNTIME__IMAGE=a"},
		"invalid image reference":              {"WAGGLE_RUNTIME_NODE_IMAGE=No De"},
		"differ":                               {"WAGGLE_RUNTIME_SHELL_IMAGE=other"},
		"not a dot":                            {"WAGGLE_RUNTIME_NODE_EXTENSION=/../x"},
	} {
		f := &vmFlags{ImageShell: "mine"}
		require.ErrorContains(t, f.checkRuntimes(environ), want)
	}
}
