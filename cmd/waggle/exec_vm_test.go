// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/supervisor"
)

// start runs waggle and returns when it has written the line "waiting".
func (c *runner) start(args ...string) (*exec.Cmd, *bufio.Reader) {
	c.t.Helper()
	cmd := c.cmd(args...)
	out, err := cmd.StdoutPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, cmd.Start())
	c.started = append(c.started, cmd)
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	require.NoError(c.t, err)
	require.Equal(c.t, "waiting\n", line)
	return cmd, lines
}

// standsStill returns when a command has written something and no more for a while.
func (c *runner) standsStill(row psRow, command string) {
	c.t.Helper()
	machine, err := supervisor.Attach(filepath.Join(c.run, row.ID))
	require.NoError(c.t, err)
	defer machine.Close()
	var last uint64
	since := time.Now()
	require.Eventually(c.t, func() bool {
		execs, err := machine.Guest().Execs(c.ctx)
		require.NoError(c.t, err)
		for _, x := range execs {
			if n := x.GetStdoutBytes(); strings.Contains(x.GetCommand(), command) && n != last {
				last, since = n, time.Now()
			}
		}
		return last > 0 && time.Since(since) > time.Second
	}, time.Minute, 100*time.Millisecond)
}

// TestVMExecStreams: like the programs that a pipe joins on one machine.
func TestVMExecStreams(t *testing.T) {
	t.Parallel()
	c := newRunner(t)
	_, row := c.waiting("--disk-mb", "256")

	t.Run("all of it, for a reader that stands still at first", func(t *testing.T) {
		const size = 80 << 20 // more than guestd keeps
		cmd := c.cmd("exec", row.ID, "--", "guest", "flood", strconv.Itoa(size))
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		c.standsStill(row, "flood")
		in := bufio.NewReaderSize(out, 1<<20)
		got := 0
		for want := 0; ; want++ {
			line, err := in.ReadSlice('\n')
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(want)+"\n", string(line))
			got += len(line)
		}
		require.NoError(t, cmd.Wait(), "%s", &errOut)
		require.GreaterOrEqual(t, got, size)
		require.Empty(t, errOut.String())
	})
	t.Run("nobody reads on", func(t *testing.T) {
		cmd := c.cmd("exec", row.ID, "guest", "flood", strconv.Itoa(1<<40))
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.NoError(t, out.Close())
		require.Error(t, cmd.Wait())
		require.Equal(t, exitSignal+int(syscall.SIGPIPE), cmd.ProcessState.ExitCode())
		require.Empty(t, errOut.String())
	})
	t.Run("a full disk", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		require.NoError(t, err)
		defer full.Close()
		cmd := c.cmd("exec", row.ID, "guest", "say", "x")
		var errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &errOut
		require.Error(t, cmd.Run())
		require.Equal(t, exitRunFailure, cmd.ProcessState.ExitCode())
		require.Contains(t, errOut.String(), "no space left")
	})
	t.Run("input", func(t *testing.T) {
		in := strings.Repeat("0123456789abcdef", 1<<18)
		out, errOut, code := c.do(in, "exec", "-i", row.ID, "guest", "cat")
		require.Zero(t, code, errOut)
		require.True(t, in == out, "%d bytes of %d", len(out), len(in))
		out, errOut, code = c.do("ignored", "exec", row.ID, "guest", "cat")
		require.Zero(t, code, errOut)
		require.Empty(t, out, "without -i the input is empty")
	})
	t.Run("a file that is not there", func(t *testing.T) {
		file := row.ID + ":/nope"
		for _, args := range [][]string{{"cat", file}, {"ls", file}, {"cp", file, t.TempDir()}, {"cp", file, "-"}} {
			_, errOut, code := c.do("", args...)
			require.Equal(t, exitFailure, code, args)
			require.Contains(t, errOut, "/nope: ", args)
			require.NotContains(t, errOut, "not_found", args)
		}
	})
}

// TestVMExecSignals: the command decides what Ctrl-C means; one that does not
// listen is ended.
func TestVMExecSignals(t *testing.T) {
	t.Parallel()
	c := newRunner(t)
	_, row := c.waiting()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd, out := c.start("exec", row.ID, "guest", "trap")
		require.NoError(t, cmd.Process.Signal(sig))
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		require.Error(t, cmd.Wait())
		require.Equal(t, sig.String()+"\n", string(rest))
		require.Equal(t, 5, cmd.ProcessState.ExitCode())

		cmd, _ = c.start("exec", row.ID, "guest", "wait")
		require.NoError(t, cmd.Process.Signal(sig))
		require.Error(t, cmd.Wait())
		require.Equal(t, exitSignal+int(sig), cmd.ProcessState.ExitCode())
	}
}

// TestVMControlGroups: the options of guestd's mounts are in effect.
func TestVMControlGroups(t *testing.T) {
	t.Parallel()
	c := newRunner(t)
	mounts, errOut, code := c.do("", "run", "-q", "tiny", "guest", "show", "/proc/mounts")
	require.Zero(t, code, errOut)
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			require.Equal(t, "/sys/fs/cgroup", f[1])
			require.Contains(t, strings.Split(f[3], ","), "nsdelegate")
			return
		}
	}
	t.Fatalf("no cgroup2 in\n%s", mounts)
}
