// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/images/kernel/prepare"
)

// vmLimit is far beyond what any of these takes: it turns a hang into a failure.
const vmLimit = 3 * time.Minute

// installed is the directory of the installation, when a test has made it.
var installed string

// installation is waggle as it is installed, with an image that holds one
// program, shared by the tests.
var installation = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cache := os.Getenv("WAGGLE_TEST_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "waggle-test")
	}
	kernel, err := prepare.Prepare(ctx, prepare.Options{Out: filepath.Join(cache, "kernel")})
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "wc") // short: it holds sockets
	if err != nil {
		return "", err
	}
	installed = dir
	for name, pkg := range map[string]string{
		"waggle": ".", "guestd-linux-" + runtime.GOARCH: "../guestd", "guest": "./testdata/guest",
	} {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return dir, errors.New(string(out))
		}
	}
	if err := os.Symlink(kernel.Dir, filepath.Join(dir, "kernel")); err != nil {
		return dir, err
	}
	if err := writeRootfs(filepath.Join(dir, "root.tar"), filepath.Join(dir, "guest")); err != nil {
		return dir, err
	}
	out, err := command(ctx, dir, filepath.Join(dir, "run"), "image", "import", filepath.Join(dir, "root.tar"), "tiny").CombinedOutput()
	if err != nil {
		return dir, errors.New(string(out))
	}
	return dir, nil
})

// asWaggle makes the test binary be waggle, for tests of the whole program that need no
// installation.
const asWaggle = "WAGGLE_TEST_AS_WAGGLE"

func TestMain(m *testing.M) {
	if os.Getenv(asWaggle) != "" {
		main()
	}
	forgetSettings()
	code := m.Run()
	if installed != "" {
		_ = os.RemoveAll(installed)
	}
	os.Exit(code)
}

func writeRootfs(path, program string) error {
	binary, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := tar.NewWriter(file)
	for _, h := range []tar.Header{
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/guest", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(binary))},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		if h.Size > 0 {
			if _, err := w.Write(binary); err != nil {
				return err
			}
		}
	}
	return errors.Join(w.Close(), file.Close())
}

// command is a waggle of the installation, with a run directory of its own.
func command(ctx context.Context, dir, run string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "waggle"), args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "WAGGLE_DATA_DIR=" + dir, "WAGGLE_RUN_DIR=" + run,
		"WAGGLE_KERNEL=" + filepath.Join(dir, "kernel"), "WAGGLE_DEFAULT_MEMORY_MB=192", "WAGGLE_DEFAULT_DISK_MB=64",
		"WAGGLE_BACKEND=qemu", // what else the host has must not change what is tested
	}
	return cmd
}

// runner runs real machines in a run directory of the test's own.
type runner struct {
	t        *testing.T
	dir, run string
	ctx      context.Context
	started  []*exec.Cmd
}

func newRunner(t *testing.T) *runner {
	t.Helper()
	if _, err := qemu.FindBinary(""); err != nil && os.Getenv("WAGGLE_TEST_REQUIRE") == "" {
		t.Skipf("no real VM here: %v", err)
	}
	dir, err := installation()
	require.NoError(t, err)
	run, err := os.MkdirTemp("", "wr")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), vmLimit)
	c := &runner{t: t, dir: dir, run: run, ctx: ctx}
	t.Cleanup(func() {
		defer cancel()
		out, err := c.cmd("rm", "--all").CombinedOutput()
		require.NoError(t, err, "%s", out)
		for _, cmd := range c.started {
			_ = cmd.Wait()
		}
		require.NoError(t, os.Remove(run), "the run directory is empty")
	})
	return c
}

func (c *runner) cmd(args ...string) *exec.Cmd { return command(c.ctx, c.dir, c.run, args...) }

// do runs waggle and returns its streams and exit code.
func (c *runner) do(stdin string, args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	cmd := c.cmd(args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(c.t, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// waiting starts a machine with a command that runs until the machine ends.
func (c *runner) waiting(flags ...string) (*exec.Cmd, psRow) {
	c.t.Helper()
	cmd := c.cmd(append(append([]string{"run", "-q"}, flags...), "tiny", "--", "guest", "wait")...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, cmd.Start())
	c.started = append(c.started, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(c.t, err, "%s", &errOut)
	require.Equal(c.t, "waiting\n", line)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	rows := c.ps()
	require.Len(c.t, rows, 1)
	return cmd, rows[0]
}

func (c *runner) ps() []psRow {
	c.t.Helper()
	text, errText, code := c.do("", "ps", "--json")
	require.Zero(c.t, code, errText)
	var rows []psRow
	require.NoError(c.t, json.Unmarshal([]byte(text), &rows))
	return rows
}

// clean holds the promise that an end leaves nothing.
func (c *runner) clean(row psRow) {
	c.t.Helper()
	require.Empty(c.t, c.ps())
	require.NoFileExists(c.t, filepath.Join(c.dir, "scratch", row.ID+".ext4"))
	require.ErrorIs(c.t, syscall.Kill(row.VMMPid, 0), syscall.ESRCH)
}

func TestVMRun(t *testing.T) {
	t.Parallel()
	c := newRunner(t)
	out, errOut, code := c.do("", "run", "tiny", "--", "guest", "say", "hello", "bees")
	require.Zero(t, code, errOut)
	require.Equal(t, "hello bees\n", out)
	require.True(t, strings.HasSuffix(errOut, "said\n"), errOut)
	require.Regexp(t, `^backend chosen: QEMU(, emulated| on KVM): WAGGLE_BACKEND is qemu(; .*)?\n`, errOut)
	require.Empty(t, c.ps())

	out, errOut, code = c.do("line\n", "run", "-q", "-i", "tiny", "--", "guest", "cat")
	require.Zero(t, code, errOut)
	require.Equal(t, "line\n", out)
	require.Empty(t, errOut)
}

func TestVMExecAndRm(t *testing.T) {
	t.Parallel()
	c := newRunner(t)
	cmd, row := c.waiting()
	require.Equal(t, "running", row.State)
	require.NotEmpty(t, row.Holders)
	prefix := row.ID[:len(row.ID)-2]
	out, errOut, code := c.do("", "exec", prefix, "--", "guest", "say", "hi")
	require.Zero(t, code, errOut)
	require.Equal(t, "hi\n", out)
	_, _, code = c.do("", "exec", prefix, "--", "guest", "exit", "7")
	require.Equal(t, 7, code)
	_, errOut, code = c.do("", "exec", prefix, "--", "no-such-program")
	require.Equal(t, exitNotFound, code, errOut)
	_, errOut, code = c.do("", "exec", "nope", "--", "guest")
	require.Equal(t, exitRunFailure, code)
	require.Contains(t, errOut, row.ID, "it lists what exists")
	out, errOut, code = c.do("", "logs", prefix)
	require.Zero(t, code, errOut)
	require.NotEmpty(t, out)
	out, errOut, code = c.do("", "rm", prefix)
	require.Zero(t, code, errOut)
	require.Equal(t, row.ID+"\n", out)
	_ = cmd.Wait()
	require.Equal(t, exitSignal+int(syscall.SIGTERM), cmd.ProcessState.ExitCode(), "the shutdown was orderly")
	c.clean(row)
}

// TestVMInterrupt: Ctrl-C leaves nothing.
func TestVMInterrupt(t *testing.T) {
	t.Parallel()
	c := newRunner(t)
	cmd, row := c.waiting()
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	require.Equal(t, exitSignal+int(syscall.SIGINT), cmd.ProcessState.ExitCode())
	c.clean(row)
}

// TestVMRunSupervisorKilled: a run whose supervisor was killed fails and clears
// what is left. That the machine ends, and alone, is TestSupervisorDies of
// host/vmtest.
func TestVMRunSupervisorKilled(t *testing.T) {
	t.Parallel()
	c := newRunner(t)
	cmd, row := c.waiting()
	require.NoError(t, syscall.Kill(row.Pid, syscall.SIGKILL))
	require.Error(t, cmd.Wait())
	// The machine is nobody's child now: the first process reaps it, in its time.
	require.Eventually(t, func() bool { return errors.Is(syscall.Kill(row.VMMPid, 0), syscall.ESRCH) },
		10*time.Second, 5*time.Millisecond)
	c.clean(row)
}
