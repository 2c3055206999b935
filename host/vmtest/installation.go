// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Installation is waggle with what lies beside it, the way a user has it, and
// directories of its own for what runs.
type Installation struct {
	// Waggle is the path of the binary.
	Waggle string
	// Data holds kernel and images; it is shared with other tests.
	Data string
	// Run is the run directory, this installation's alone.
	Run string
	// As is who runs waggle; nil is who runs the test.
	As *syscall.Credential
}

// Install builds waggle and guestd from this tree. The images come from
// WAGGLE_TEST_DATA, which the task `test` prepares; without it the test is
// skipped, or fails where WAGGLE_TEST_REQUIRE names qemu. WAGGLE_TEST_BIN names a
// directory where both lie built, as `task build` leaves them: the guestd that
// the images were baked with, which saves their machines a second start of it.
func Install(t testing.TB) *Installation {
	t.Helper()
	data := os.Getenv("WAGGLE_TEST_DATA")
	if data == "" {
		const remedy = "WAGGLE_TEST_DATA is not set: run the tests with `task test`, which prepares the images"
		if strings.Contains(os.Getenv("WAGGLE_TEST_REQUIRE"), "qemu") {
			t.Fatal(remedy)
		}
		t.Skip(remedy)
	}
	dir, err := os.MkdirTemp("", "wv") // short: it holds sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	in := &Installation{Waggle: filepath.Join(dir, "waggle"), Data: data, Run: filepath.Join(dir, "run")}
	if bin := os.Getenv("WAGGLE_TEST_BIN"); bin != "" {
		in.Waggle = filepath.Join(bin, "waggle")
		return in
	}
	build(t, in.Waggle, "github.com/stacklok/waggle/cmd/waggle")
	build(t, filepath.Join(dir, "guestd-linux-"+runtime.GOARCH), "github.com/stacklok/waggle/cmd/guestd")
	return in
}

func build(t testing.TB, out, pkg string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	msg, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", msg)
}

// Env is the environment of the installation's programs.
func (in *Installation) Env() []string {
	env := append(os.Environ(), "WAGGLE_DATA_DIR="+in.Data, "WAGGLE_RUN_DIR="+in.Run)
	if in.As != nil {
		env = append(env, "HOME="+in.Data, "XDG_RUNTIME_DIR=")
	}
	return env
}

// prepare makes cmd one of the installation's programs.
func (in *Installation) prepare(cmd *exec.Cmd) {
	cmd.Env = in.Env()
	if in.As != nil {
		cmd.Dir = in.Data
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: in.As}
	}
}

// Command runs waggle with args and returns its standard output.
func (in *Installation) Command(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), in.Waggle, args...)
	in.prepare(cmd)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "waggle %s: %s", strings.Join(args, " "), stderr.String())
	return string(out)
}
