// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type environment struct {
	ID    string `json:"environment_id"`
	State string `json:"state"`
}

type executed struct {
	ExitCode int    `json:"exit_code"`
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
	TimedOut bool   `json:"timed_out"`

	OOMKilled       bool     `json:"oom_killed"`
	PidsExhausted   bool     `json:"pids_exhausted"`
	FullFilesystems []string `json:"full_filesystems"`
	LeftRunning     int      `json:"left_running"`
}

// TestTranscript is the main job as an agent does it, every joint real.
func TestTranscript(t *testing.T) {
	transcript(t, Install(t))
}

func transcript(t *testing.T, in *Installation) {
	t.Helper()
	s := in.Serve(t)
	readmeCommands(t, s)
	c := s.Connect(t)

	var tools struct {
		Tools []struct{ Name string }
	}
	c.Do(t, "tools/list", nil, &tools)
	theEight(t, tools.Tools)

	var env environment
	c.Call(t, "create_environment", map[string]any{"runtime": "python", "name": "transcript"}, &env)
	require.Equal(t, "running", env.State)

	const file = "/home/sandbox/data/greeting.txt"
	id := func(more map[string]any) map[string]any {
		args := map[string]any{"environment_id": env.ID}
		for k, v := range more {
			args[k] = v
		}
		return args
	}
	var discard map[string]any
	c.Call(t, "write_file", id(map[string]any{"path": file, "content": "grüß dich\n"}), &discard)

	var ran executed
	c.Call(t, "execute", id(map[string]any{"code": `
import os, sys
print(open("` + file + `").read().strip())
print("uid", os.getuid(), file=sys.stderr)
sys.exit(3)
`}), &ran)
	require.Equal(t, executed{ExitCode: 3, Stdout: "grüß dich\n", Stderr: "uid 1000\n"}, ran)

	timeoutKillsTheTree(t, c, env.ID)
	refusals(t, c, env.ID)
	hugeOutput(t, c, env.ID)

	c.Call(t, "install_packages", id(map[string]any{"packages": "six"}), &discard)
	c.Call(t, "execute", id(map[string]any{"code": "import six; print(six.__name__)"}), &ran)
	require.Equal(t, "six\n", ran.Stdout, ran.Stderr)

	var read struct{ Content string }
	c.Call(t, "read_file", id(map[string]any{"path": file}), &read)
	require.Equal(t, "grüß dich\n", read.Content)
	var listed struct{ Files []struct{ Path string } }
	c.Call(t, "list_files", id(map[string]any{"path": filepath.Dir(file)}), &listed)
	require.Len(t, listed.Files, 1)

	c.Call(t, "destroy_environment", id(nil), &discard)
	nothingLeft(t, in, env.ID)
}

// timeoutKillsTheTree runs code that forks 20 daemons twice, each in a session
// of its own, and sees none of them after the timeout.
func timeoutKillsTheTree(t *testing.T, c *Session, id string) {
	t.Helper()
	var ran executed
	c.Call(t, "execute", map[string]any{"environment_id": id, "timeout_seconds": 6, "code": `
import os, time
for i in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "98765"])
        os._exit(0)
print("forked", flush=True)
time.sleep(3600)
`}, &ran)
	require.True(t, ran.TimedOut)
	require.Equal(t, "forked\n", ran.Stdout, "output before the timeout is kept")
	c.Call(t, "execute", map[string]any{"environment_id": id, "language": "shell", "code": "pgrep -c -f 'sleep 9876[5]'"}, &ran)
	require.Equal(t, "0\n", ran.Stdout, "processes that outlived the timeout")
}

// nothingLeft looks for what a destroyed environment could have left. Its
// supervisor answers before it exits, so its processes get a moment.
func nothingLeft(t *testing.T, in *Installation, id string) {
	t.Helper()
	require.NoDirExists(t, filepath.Join(in.Run, id))
	require.NoFileExists(t, filepath.Join(in.Data, "scratch", id+".ext4"))
	require.Eventually(t, func() bool {
		out, err := exec.CommandContext(t.Context(), "pgrep", "-f", id).Output()
		return err != nil && len(out) == 0
	}, 10*time.Second, 20*time.Millisecond, "a process of %s lives", id)
}

// TestServerDies holds that a server's death costs nothing: the machine lives,
// the command line reaches it, and the next server takes it over.
func TestServerDies(t *testing.T) {
	in := Install(t)
	s := in.Serve(t)
	var env environment
	s.Connect(t).Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	s.Kill()
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(in.Run, env.ID)); err == nil {
			in.Command(t, "rm", env.ID)
		}
	})
	require.Equal(t, "alive\n", in.Command(t, "exec", env.ID, "--", "echo", "alive"))

	c := in.Serve(t).Connect(t)
	var list struct{ Environments []environment }
	c.Call(t, "list_environments", map[string]any{}, &list)
	require.Equal(t, []environment{{env.ID, "running"}}, list.Environments)
	var ran executed
	c.Call(t, "execute", map[string]any{"environment_id": env.ID, "code": "print(6*7)"}, &ran)
	require.Equal(t, "42\n", ran.Stdout)
	in.Command(t, "rm", env.ID)
	nothingLeft(t, in, env.ID)
}
