// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
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
}

// Install builds waggle and guestd from this tree. The images come from
// WAGGLE_TEST_DATA, which the task `test` prepares; without it the test is
// skipped, or fails where WAGGLE_TEST_REQUIRE names qemu.
func Install(t *testing.T) *Installation {
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
	build(t, in.Waggle, "github.com/stacklok/waggle/cmd/waggle")
	build(t, filepath.Join(dir, "guestd-linux-"+runtime.GOARCH), "github.com/stacklok/waggle/cmd/guestd")
	return in
}

func build(t *testing.T, out, pkg string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	msg, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", msg)
}

// Env is the environment of the installation's programs.
func (in *Installation) Env() []string {
	return append(os.Environ(), "WAGGLE_DATA_DIR="+in.Data, "WAGGLE_RUN_DIR="+in.Run)
}

// Command runs waggle with args and returns its standard output.
func (in *Installation) Command(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), in.Waggle, args...)
	cmd.Env = in.Env()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "waggle %s: %s", strings.Join(args, " "), stderr.String())
	return string(out)
}
