// SPDX-License-Identifier: Apache-2.0

package mcptest

import (
	"bytes"
	"context"
	"embed"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/remedy"
)

// Conformance names the clients in WAGGLE_TEST_REQUIRE.
const Conformance = "conformance"

// Inspector is the file of the inspector's command line.
const Inspector = "@modelcontextprotocol/inspector/clients/launcher/build/index.js"

// endLimit is how long a client that was told to end may take.
const endLimit = 10 * time.Second

//go:embed testdata/*.mjs
var scripts embed.FS

// Clients are what scripts/mcp-clients.sh has installed.
type Clients struct {
	modules string
	node    string
}

// Find returns the clients. A test that does not find them is skipped, or fails where
// WAGGLE_TEST_REQUIRE has "conformance".
func Find(t testing.TB) *Clients {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), filepath.Join(strings.TrimSpace(string(root)), "scripts", "mcp-clients.sh"), "--where").Output()
	if err != nil {
		why := "the MCP clients are not installed: " + remedy.RunTask("mcp-clients")
		if slices.Contains(strings.Split(os.Getenv("WAGGLE_TEST_REQUIRE"), ","), Conformance) {
			t.Fatalf("WAGGLE_TEST_REQUIRE has %s, but: %s", Conformance, why)
		}
		t.Skip(why)
	}
	modules := filepath.Join(strings.TrimSpace(string(out)), "node_modules")
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	return &Clients{modules: modules, node: filepath.Join(modules, "node-"+runtime.GOOS+"-"+arch, "bin", "node")}
}

// Module runs the program of an installed package, given by its file.
func (c *Clients) Module(ctx context.Context, file string, args ...string) *exec.Cmd {
	return c.command(ctx, filepath.Join(c.modules, file), args)
}

// Script runs a script of testdata.
func (c *Clients) Script(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	// Node.js looks for packages beside the script.
	dir := t.TempDir()
	require.NoError(t, os.Symlink(c.modules, filepath.Join(dir, "node_modules")))
	files, err := fs.Sub(scripts, "testdata")
	require.NoError(t, err)
	require.NoError(t, os.CopyFS(dir, files))
	return c.command(t.Context(), filepath.Join(dir, name), args)
}

func (c *Clients) command(ctx context.Context, file string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.node, append([]string{file}, args...)...)
	cmd.WaitDelay = endLimit
	// A proxy of the caller's is not for servers of this machine.
	cmd.Env = append(os.Environ(), "NO_PROXY=127.0.0.1,localhost", "NO_COLOR=1")
	return cmd
}

// Run runs a client to its end and returns what it wrote. One that fails fails the
// test, with its words.
func Run(t testing.TB, cmd *exec.Cmd) (stdout string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	require.NoError(t, err, "%s\n%s\n%s", strings.Join(cmd.Args[1:], " "), out.String(), errs.String())
	return out.String()
}
