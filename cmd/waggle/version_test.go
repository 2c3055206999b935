// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersionJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, (&versionCmd{JSON: true}).write(&out))
	var v struct {
		Version string `json:"version"`
		Min     uint32 `json:"protocol_min"`
		Max     uint32 `json:"protocol_max"`
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &v))
	require.NotEmpty(t, v.Version)
	require.Positive(t, v.Min)
	require.GreaterOrEqual(t, v.Max, v.Min)
}

// TestStatic holds the promise that waggle runs on any Linux, and guestd in any
// image: no interpreter, so no C library. waggle-krun is the exception.
func TestStatic(t *testing.T) {
	t.Parallel()
	for _, pkg := range []string{".", "../guestd"} {
		bin := filepath.Join(t.TempDir(), "program")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin, pkg)
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		f, err := elf.Open(bin)
		require.NoError(t, err)
		for _, p := range f.Progs {
			require.NotEqual(t, elf.PT_INTERP, p.Type, pkg)
		}
		require.NoError(t, f.Close())
	}
}
