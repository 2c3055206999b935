// SPDX-License-Identifier: Apache-2.0

package waggle_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	maxLines     = 400
	maxTestLines = 600
)

// TestHouseRules reads every tracked source: each says its licence, and none has
// grown past the size at which a file should be two.
func TestHouseRules(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "*.go", "*.c", "*.h", "*.yaml", "*.yml").Output()
	require.NoError(t, err)
	files := strings.Fields(string(out))
	require.NotEmpty(t, files)
	for _, f := range files {
		if strings.HasPrefix(f, "proto/gen/") {
			continue
		}
		src, err := os.ReadFile(f)
		require.NoError(t, err)
		head, _, _ := bytes.Cut(src, []byte("\n\n"))
		if !bytes.Contains(head, []byte("SPDX-License-Identifier: Apache-2.0")) {
			t.Errorf("%s: no SPDX header in its first lines", f)
		}
		limit := maxLines
		if strings.HasSuffix(f, "_test.go") {
			limit = maxTestLines
		}
		program := slices.Contains([]string{".go", ".c", ".h"}, filepath.Ext(f))
		if n := lines(src); program && n > limit {
			t.Errorf("%s: %d lines, at most %d", f, n, limit)
		}
	}
}

func lines(src []byte) int {
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(src)); s.Scan(); {
		n++
	}
	return n
}
