// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// securityDoc has the tables of what a command may do.
const securityDoc = "../../docs/security.md"

// sigsys is the exit code of a command that a system call has killed.
const sigsys = 128 + 31

// TestPrivilege makes each call of the tables in docs/security.md in a machine, as
// the workload's user and as root. The tables are the test's only expectations, and
// name all calls that are made.
func TestPrivilege(t *testing.T) {
	in := Install(t)
	var env environment
	in.Serve(t).Connect(t).Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
	intruder := bring(t, in, env.ID, "intruder")
	want := promised(t)
	for column, flag := range []string{"--user=sandbox", "--as-root"} {
		t.Run(strings.TrimLeft(flag, "-"), func(t *testing.T) {
			got := map[string]string{}
			out, errOut, code := in.cli(t, "", "exec", flag, env.ID, "--", intruder)
			require.Zero(t, code, errOut)
			for line := range strings.Lines(out) {
				i := strings.LastIndexByte(line, ' ')
				got[line[:i]] = strings.TrimSpace(line[i:])
			}
			if runtime.GOARCH == "amd64" {
				_, errOut, code = in.cli(t, "", "exec", flag, env.ID, "--", intruder, "i386 getpid")
				require.Equal(t, sigsys, code, errOut)
				got["i386 getpid"] = "SIGSYS"
			}
			expect := map[string]string{}
			for call, answers := range want {
				expect[call] = answers[column]
			}
			require.Equal(t, expect, got)
		})
	}
}

var (
	tableRow = regexp.MustCompile("^\\|(.*`.*)\\| ([A-Za-z]+) \\| ([A-Za-z]+) \\|$")
	callName = regexp.MustCompile("`([^`]+)`")
)

// promised are the calls of the tables, each with the answers as the workload's
// user and as root. Those of x86 are only made there.
func promised(t *testing.T) map[string][2]string {
	t.Helper()
	doc, err := os.ReadFile(securityDoc)
	require.NoError(t, err)
	_, tables, found := strings.Cut(string(doc), "## What a command may do")
	require.True(t, found)
	tables, _, _ = strings.Cut(tables, "\n## ")
	want := map[string][2]string{}
	for line := range strings.Lines(tables) {
		row := tableRow.FindStringSubmatch(strings.TrimSpace(line))
		if row == nil || strings.Contains(row[1], "(x86)") && runtime.GOARCH != "amd64" {
			continue
		}
		for _, call := range callName.FindAllStringSubmatch(row[1], -1) {
			require.NotContains(t, want, call[1], "named twice")
			want[call[1]] = [2]string{row[2], row[3]}
		}
	}
	return want
}

// bring builds a program of testdata, copies it into the environment and returns
// its path there.
func bring(t *testing.T, in *Installation, id, name string) string {
	t.Helper()
	built := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", built, "./testdata/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	msg, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", msg)
	path := "/home/sandbox/" + name
	in.Command(t, "cp", "-q", built, id+":"+path)
	return path
}
