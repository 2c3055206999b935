// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDynamic: it is built without a C compiler, and yet the dynamic loader can
// load libraries into it. By hand it says what it is for.
func TestDynamic(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "waggle-krun")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".")
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	f, err := elf.Open(bin)
	require.NoError(t, err)
	defer f.Close()
	interp := 0
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			interp++
		}
	}
	require.Equal(t, 1, interp)
	needed, err := f.DynString(elf.DT_NEEDED)
	require.NoError(t, err)
	require.Subset(t, []string{"libc.so.6", "libdl.so.2", "libpthread.so.0"}, needed, "nothing that a small host lacks")

	out, err = exec.CommandContext(t.Context(), bin).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "started by `waggle supervise`, not by hand")
	out, err = exec.CommandContext(t.Context(), bin, "serve").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "takes no arguments")
}
