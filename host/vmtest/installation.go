// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"context"
	"fmt"
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
	// Settings are more variables of its programs.
	Settings []string
}

// Install builds waggle and guestd from this tree, once for all tests of a
// process. The images come from WAGGLE_TEST_DATA, which the task `test` prepares;
// without it the test is skipped, or fails where WAGGLE_TEST_REQUIRE names a backend.
// WAGGLE_TEST_BIN names a directory where both lie built, as `task build` leaves
// them: the guestd that the images were baked with, which saves their machines a
// second start of it.
func Install(t testing.TB) *Installation {
	t.Helper()
	data := os.Getenv("WAGGLE_TEST_DATA")
	if data == "" {
		const remedy = "WAGGLE_TEST_DATA is not set: run the tests with `task test`, which prepares the images"
		if Required("qemu") || Required("krun") {
			t.Fatal(remedy)
		}
		t.Skip(remedy)
	}
	bin := os.Getenv("WAGGLE_TEST_BIN")
	if bin == "" {
		var err error
		bin, err = binaries()
		require.NoError(t, err)
	}
	dir, err := os.MkdirTemp("", "wv") // short: it holds sockets
	require.NoError(t, err)
	in := &Installation{Waggle: filepath.Join(bin, "waggle"), Data: data, Run: filepath.Join(dir, "run")}
	t.Cleanup(func() {
		in.sweep(t)
		require.NoError(t, os.RemoveAll(dir))
	})
	return in
}

// sweep ends what a test has left, as one that failed does. The test's context has
// ended already.
func (in *Installation) sweep(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(in.Run); err != nil {
		return // none ever ran
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, in.Waggle, "rm", "--all")
	in.prepare(cmd)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// built is the directory that binaries made, for Main to remove.
var built string

// binaries returns the directory of this tree's waggle and guestd. The context of
// one test is not theirs: go's own time-out ends a build that hangs.
var binaries = sync.OnceValues(func() (dir string, err error) {
	if built, err = os.MkdirTemp("", "wb"); err != nil {
		return "", fmt.Errorf("build waggle: %w", err)
	}
	for out, pkg := range map[string]string{
		"waggle": "cmd/waggle", "waggle-krun": "cmd/waggle-krun", "guestd-linux-" + runtime.GOARCH: "cmd/guestd",
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(built, out), "github.com/stacklok/waggle/"+pkg) //nolint:noctx // see above
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if msg, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w: %s", pkg, err, msg)
		}
	}
	return built, nil
})

// Main runs the tests of a package that installs, for its TestMain, and removes
// what was built for them.
func Main(m *testing.M) int {
	code := m.Run()
	if built == "" {
		return code
	}
	if err := os.RemoveAll(built); err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err)
		return max(code, 1)
	}
	return code
}

// Env is the environment of the installation's programs.
func (in *Installation) Env() []string {
	env := append(os.Environ(), "WAGGLE_DATA_DIR="+in.Data, "WAGGLE_RUN_DIR="+in.Run)
	if os.Getenv("WAGGLE_BACKEND") == "" {
		// What else a host has must not change what is tested.
		env = append(env, "WAGGLE_BACKEND=qemu")
	}
	if in.As != nil {
		// Debian's path of somebody who is not root: mkfs.ext4 is not on it.
		env = append(env, "HOME="+in.Data, "XDG_RUNTIME_DIR=", "PATH=/usr/local/bin:/usr/bin:/bin")
	}
	return append(env, in.Settings...)
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
