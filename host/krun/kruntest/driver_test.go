// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// playLimit turns a driver that hangs into a failure.
const playLimit = time.Minute

// player runs driver with one library, in a directory of its own for TMPDIR, the
// record and the sockets.
type player struct {
	library, firmware string // a file, and the directory of libkrunfw
	dir               string
}

func newPlayer(t *testing.T, o Options) *player {
	t.Helper()
	libs := Install(t, o)
	return &player{library: filepath.Join(libs, Library), firmware: libs, dir: shortDir(t)}
}

// shortDir is for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wk")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// played is a driver that runs, or ran.
type played struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	console        string
	done           chan struct{}
}

// said is all that a driver and its guest had to say, once it has ended.
func (r *played) said() string {
	console, _ := os.ReadFile(r.console)
	return fmt.Sprintf("%v\n%s\n%s", r.cmd.ProcessState, &r.stderr, console)
}

// start makes the driver call what the lines say, with spaces for the tabs.
func (p *player) start(t *testing.T, lines ...string) *played {
	t.Helper()
	driver, err := once(buildDriver, "driver")
	require.NoError(t, err)
	run := &played{cmd: exec.CommandContext(t.Context(), driver, p.library), console: filepath.Join(p.dir, "console"), done: make(chan struct{})}
	run.cmd.Stdin = strings.NewReader(strings.ReplaceAll(strings.Join(lines, "\n"), " ", "\t") + "\n")
	run.cmd.Stdout, run.cmd.Stderr = &run.stdout, &run.stderr
	run.cmd.Env = []string{"LD_LIBRARY_PATH=" + p.firmware, "TMPDIR=" + p.dir, "DOUBLE_DIR=" + p.dir}
	require.NoError(t, run.cmd.Start())
	go func() {
		defer close(run.done)
		_ = run.cmd.Wait() // its state says all
	}()
	t.Cleanup(func() {
		_ = run.cmd.Process.Kill()
		<-run.done
	})
	return run
}

// wait is for the end of the driver.
func (r *played) wait(t *testing.T) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(playLimit):
		require.FailNow(t, "the driver does not end", "%s", dump(r.cmd.Process.Pid))
	}
}

// dump says where a process stands.
func dump(pid int) []byte {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return status
}

// play runs the calls to their end and returns what each returned, in words.
func (p *player) play(t *testing.T, lines ...string) (results []string, run *played) {
	t.Helper()
	run = p.start(t, lines...)
	run.wait(t)
	for line := range strings.Lines(run.stdout.String()) {
		_, result, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok, line)
		results = append(results, result)
	}
	return results, run
}

// record is what the double recorded.
func (p *player) record(t *testing.T) []Entry {
	t.Helper()
	return Record(t, filepath.Join(p.dir, RecordFile))
}
