// SPDX-License-Identifier: Apache-2.0

package remedy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/remedy"
)

// TestRemediesHaveOnePlace: no other program text names a task, which would need
// Task installed, or how packages are installed.
func TestRemediesHaveOnePlace(t *testing.T) {
	t.Parallel()
	words := regexp.MustCompile("`task |apt-get install|tools/go.mod task")
	for _, tree := range []string{"..", "../../cmd"} {
		require.NoError(t, filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
			// What host/vmtest holds drives the programs from a checkout.
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
				strings.Contains(path, "vmtest/") || path == "../remedy/remedy.go" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for number, line := range strings.Split(string(text), "\n") {
				if words.MatchString(line) {
					t.Errorf("%s:%d: take the command from host/remedy: %s", path, number+1, line)
				}
			}
			return nil
		}))
	}
}

// TestTasksExist: a remedy that names a task that is not there mends nothing.
func TestTasksExist(t *testing.T) {
	t.Parallel()
	tasks, err := os.ReadFile("../../Taskfile.yaml")
	require.NoError(t, err)
	for _, name := range []string{"kernel", "images", "build", "deps:krun", "sign", "mcp-clients"} {
		require.Contains(t, string(tasks), "\n  "+name+":\n")
		require.Contains(t, remedy.RunTask(name), "`"+remedy.Task(name)+"`")
	}
}
