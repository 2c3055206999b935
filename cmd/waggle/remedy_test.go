// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/host/remedy"
)

// TestSameRemedy: what doctor says of a missing piece is what a command says that
// meets it, to the letter.
func TestSameRemedy(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no qemu
	dir := t.TempDir()
	kernel := filepath.Join(dir, "kernel")
	settings, err := json.Marshal(backendSettings{DataDir: dir, Kernel: kernel, Guestd: filepath.Join(dir, "guestd")})
	require.NoError(t, err)
	_, noQEMU := qemu.FindBinary("")
	require.ErrorIs(t, noQEMU, qemu.ErrNoBinary)
	_, noGuestd := findGuestd(dir, runtime.GOARCH)
	require.Error(t, noGuestd)
	var met strings.Builder
	for _, err := range checkBackend(settings) {
		met.WriteString(err.Error() + "\n")
	}
	for _, tc := range []struct {
		found finding
		met   string
	}{
		{checkQEMU(t.Context(), ""), noQEMU.Error()},
		{checkQEMU(t.Context(), ""), met.String()},
		{checkGuestd(dir, runtime.GOARCH), noGuestd.Error()},
		{missing("mkfs.ext4", "", remedy.Apt("e2fsprogs")), disk.ErrNoMkfs.Error()},
	} {
		require.Equal(t, statusMissing, tc.found.Status)
		command, _, _ := strings.Cut(tc.found.Remedy, "   #")
		require.Contains(t, tc.met, "`"+command+"`", tc.found.Check)
	}
}
