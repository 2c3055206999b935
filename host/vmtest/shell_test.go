// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// screenLimit is the time in which a screen must show what a test waits for.
const screenLimit = 30 * time.Second

// screen is a terminal that a test types into: a tmux server of its own.
type screen struct {
	t      *testing.T
	socket string
}

func newScreen(t *testing.T, in *Installation, cols, rows int) *screen {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Fatal("tmux is missing: run `task deps`")
	}
	s := &screen{t: t, socket: filepath.Join(t.TempDir(), "t")}
	s.tmux("new-session", "-d", "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows),
		"-e", "WAGGLE_RUN_DIR="+in.Run, "-e", "PS1=host> ", "env", "-u", "BASH_ENV", "sh")
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", s.socket, "kill-server").Run() }) //nolint:noctx // t.Context() has ended
	return s
}

func (s *screen) tmux(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "tmux", append([]string{"-f", "/dev/null", "-S", s.socket}, args...)...)
	out, err := cmd.CombinedOutput()
	require.NoError(s.t, err, "tmux %v: %s", args, out)
	return string(out)
}

// line types a line and the return key.
func (s *screen) line(text string) { s.t.Helper(); s.tmux("send-keys", "-l", text); s.keys("Enter") }

func (s *screen) keys(names ...string) {
	s.t.Helper()
	s.tmux(append([]string{"send-keys"}, names...)...)
}

// waits returns once the screen shows want.
func (s *screen) waits(want string) {
	s.t.Helper()
	for deadline := time.Now().Add(screenLimit); ; <-time.After(100 * time.Millisecond) {
		shown := s.tmux("capture-pane", "-p")
		if strings.Contains(shown, want) {
			return
		}
		require.True(s.t, time.Now().Before(deadline), "%q does not appear on the screen:\n%s", want, shown)
	}
}

// TestShell drives a shell as a person does: a prompt, Ctrl-C, a full-screen
// program, a new size, leaving it, a terminal that is closed, and coming back.
func TestShell(t *testing.T) {
	in := Install(t)
	var env environment
	in.Serve(t).Connect(t).Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	defer in.Command(t, "rm", env.ID)

	s := newScreen(t, in, 100, 30)
	s.waits("host>")
	s.line(in.Waggle + " shell " + env.ID)
	s.waits("sandbox@" + env.ID)
	s.line("echo size=$(stty size)")
	s.waits("size=30 100")
	s.tmux("resize-window", "-x", "80", "-y", "20")
	s.line("clear; echo size=$(stty size)")
	s.waits("size=20 80")
	s.line(`echo be''gun; sleep 1000`)
	s.waits("begun")
	s.keys("C-c")
	s.line("echo interrupted=$?")
	s.waits("interrupted=130")

	s.keys("C-p", "C-q") // the shell says nothing meanwhile
	s.waits("waggle: detached from shell-")
	id := onlyShell(t, in, env.ID)
	s.line("clear")
	s.line(in.Waggle + " attach " + id)
	s.line(`clear; echo st''ill=here`)
	s.waits("still=here")

	s.line(`top; echo top''=over`) // paints the whole screen
	s.waits("PID USER")
	s.keys("C-p", "C-q")
	s.waits("waggle: detached from shell-")
	require.Equal(t, id, onlyShell(t, in, env.ID))
	s.line("clear")
	s.line(in.Waggle + " attach " + id)
	s.waits("PID USER") // painted anew
	s.keys("q")
	s.waits("top=over") // it drops what was typed before it ended
	s.line(`clear; marker=kept; echo is=$marker`)
	s.waits("is=kept")
	s.tmux("kill-server") // the terminal is closed

	s = newScreen(t, in, 90, 25)
	s.line(in.Waggle + " attach " + env.ID + "/" + id)
	s.waits("sandbox@" + env.ID)
	s.line("clear; echo marker=$marker size=$(stty size)")
	s.waits("marker=kept size=25 90")
	s.line("exit 7")
	s.waits("host>") // what is typed before goes to the shell that ends
	s.line("echo shell=$?")
	s.waits("shell=7")
}

// onlyShell returns the one shell that runs in env.
func onlyShell(t *testing.T, in *Installation, env string) string {
	t.Helper()
	var view struct {
		Execs []struct {
			ID    string `json:"exec_id"`
			State string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(in.Command(t, "top", "--json", env)), &view))
	for _, x := range view.Execs {
		if strings.HasPrefix(x.ID, "shell-") && x.State == "running" {
			return x.ID
		}
	}
	require.Fail(t, "no shell runs", "%+v", view)
	return ""
}
