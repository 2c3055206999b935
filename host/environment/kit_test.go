// SPDX-License-Identifier: Apache-2.0

package environment_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
)

// newSetManager has a runtime of its settings, and another command for shell.
func newSetManager(t *testing.T, f *envtest.Fleet) *environment.Manager {
	t.Helper()
	m, err := environment.New(environment.Config{
		Launch: f.Launch, Max: 9, Idle: time.Minute, ExecDefault: time.Minute, ExecMax: time.Minute,
		Runtimes: map[string]environment.RuntimeSetting{
			"shell":  {Exec: []string{"/bin/sh", "-e"}, Install: []string{"/bin/sh", "-c", "echo got \"$@\"; exit $#", "add"}},
			"python": {Exec: []string{"/usr/bin/env", "python3"}},
			"words":  {Exec: []string{"/bin/cat"}, Install: []string{"/bin/echo", "-n", "installed"}, Extension: ".txt"},
		},
	})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

func TestImageEnvironment(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	f.Has(map[string]string{"sh": "/bin/sh", "python": "/opt/bin/python", "apk": "/sbin/apk", "pip": "/opt/bin/pip"})
	m := newManager(t, f, 3)
	info, err := m.Create(t.Context(), environment.CreateOptions{Image: "quay.io/team/app:v1"}, nil)
	require.NoError(t, err)
	require.Empty(t, info.Runtime)
	require.Equal(t, "quay.io/team/app:v1", info.Image)
	require.Equal(t, "sha256:0", info.ImageDigest)
	require.Equal(t, "host", info.GuestdOrigin)
	require.Equal(t, "app", info.User)
	require.Equal(t, envtest.ImageDir, info.Dir)
	require.Equal(t, []string{"python", "shell"}, info.Languages)
	require.Equal(t, []string{"pip", "apk"}, info.Managers)

	r, err := m.Exec(t.Context(), info.ID, environment.ExecRequest{Code: "pwd; ls -A; ls $0", Language: "shell"})
	require.NoError(t, err)
	require.Regexp(t, envtest.ImageDir+"\n.*/tmp/.waggle/"+r.ExecutionID+`\.[0-9a-f]{12}\.sh\n$`, r.Stdout.Text, "it runs in the working directory of the image, and nothing lies there")
	l, err := m.ListFiles(t.Context(), info.ID, "", environment.ListOptions{})
	require.NoError(t, err)
	require.Equal(t, envtest.ImageDir, l.Path)
}

// TestImageWithoutPrograms is a distroless image: the files are there, no code runs.
func TestImageWithoutPrograms(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	f.Has(map[string]string{})
	m := newManager(t, f, 1)
	info, err := m.Create(t.Context(), environment.CreateOptions{Image: "static"}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{}, info.Languages)
	_, err = m.Exec(t.Context(), info.ID, environment.ExecRequest{Code: "1"})
	require.ErrorIs(t, err, environment.ErrNoInterpreter)
	require.ErrorContains(t, err, "waggle exec "+info.ID)
	_, err = m.WriteFile(t.Context(), info.ID, envtest.ImageDir+"/a", []byte("a"), environment.WriteOptions{})
	require.NoError(t, err)
}

// TestOlderGuest cannot say what it has, and is what it was.
func TestOlderGuest(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	info, err := m.Create(t.Context(), environment.CreateOptions{Image: "old"}, nil)
	require.NoError(t, err)
	require.Nil(t, info.Languages)
	require.Equal(t, environment.Home, info.Dir)
	_, err = m.Exec(t.Context(), info.ID, environment.ExecRequest{Code: "echo"})
	require.ErrorContains(t, err, "language is missing")
	_, err = m.Exec(t.Context(), info.ID, environment.ExecRequest{Code: "echo", Language: "shell"})
	require.NoError(t, err)
}

func TestRuntimeSettings(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	m := newSetManager(t, f)
	require.Equal(t, []string{"python", "node", "shell", "words"}, m.Runtimes())
	words := create(t, m, "words")
	r, err := m.Exec(t.Context(), words, environment.ExecRequest{Code: "as they are\n"})
	require.NoError(t, err)
	require.Equal(t, "as they are\n", r.Stdout.Text)
	require.Equal(t, "words", r.Language)
	var lines []string
	done, err := m.InstallPackages(t.Context(), words, environment.InstallRequest{
		Packages: []string{"a", "b=1"}, Line: func(l string) { lines = append(lines, l) },
	})
	require.NoError(t, err)
	require.Equal(t, "echo", done.Manager)
	require.Equal(t, []string{"installed a b=1"}, lines)

	require.Eventually(t, func() bool {
		r, err := m.Exec(t.Context(), words, environment.ExecRequest{Command: []string{"ls", "-A"}})
		return err == nil && r.Stdout.Text == ""
	}, patience, 10*time.Millisecond, "the file lay where the program may look for more, and is gone")
	// It is not known to be the interpreter, so the file lies where it looks.
	r, err = m.Exec(t.Context(), words, environment.ExecRequest{Language: "python", Code: "import os; print(os.path.dirname(__file__) == os.getcwd())"})
	require.NoError(t, err)
	require.Equal(t, "True\n", r.Stdout.Text)
	shell := create(t, m, "shell")
	r, err = m.Exec(t.Context(), shell, environment.ExecRequest{Code: "echo $0 $(ls -A)"})
	require.NoError(t, err)
	require.Regexp(t, `/tmp/\.waggle/\S*\.sh\n$`, r.Stdout.Text)
	r, err = m.Exec(t.Context(), shell, environment.ExecRequest{Code: "false; echo on"})
	require.NoError(t, err)
	require.Equal(t, 1, r.ExitCode, "run with the setting's -e")
	_, err = m.InstallPackages(t.Context(), shell, environment.InstallRequest{Packages: []string{"a", "b"}})
	require.ErrorIs(t, err, environment.ErrInstall)
	require.ErrorContains(t, err, "exit code 2")
	require.ErrorContains(t, err, "got a b")
	_, err = m.InstallPackages(t.Context(), shell, environment.InstallRequest{Packages: []string{"six"}, Manager: "pip"})
	require.NoError(t, err, "a manager by name is asked for as ever")

	_, err = environment.New(environment.Config{
		Launch: f.Launch, Max: 1, Idle: time.Minute, ExecDefault: time.Minute, ExecMax: time.Minute,
		Runtimes: map[string]environment.RuntimeSetting{"ruby": {Install: []string{"/usr/bin/gem"}}},
	})
	require.ErrorContains(t, err, "ruby has no command")
}
