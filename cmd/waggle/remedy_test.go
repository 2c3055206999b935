// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
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
	settings, err := json.Marshal(backendSettings{Backend: backendQEMU, DataDir: dir, Kernel: kernel, Guestd: filepath.Join(dir, "guestd")})
	require.NoError(t, err)
	_, noQEMU := qemu.FindBinary("")
	require.ErrorIs(t, noQEMU, qemu.ErrNoBinary)
	_, noGuestd := findGuestd(dir, runtime.GOARCH)
	require.Error(t, noGuestd)
	require.Len(t, checkBackend(settings), 3, "qemu, kernel and guestd, at once")
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
		{checkKernel(kernel, runtime.GOARCH), met.String()},
		{checkGuestd(dir, runtime.GOARCH), noGuestd.Error()},
		{missing("mkfs.ext4", "", remedy.Apt("e2fsprogs")), disk.ErrNoMkfs.Error()},
	} {
		require.Equal(t, statusMissing, tc.found.Status)
		command, _, _ := strings.Cut(tc.found.Remedy, "   #")
		require.Contains(t, tc.met, "`"+command+"`", tc.found.Check)
	}
}

// TestRunNamesAllThatIsMissing: with no part of a machine there and no image, the
// parts come first, all of them, and nothing is fetched.
func TestRunNamesAllThatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir, err := os.MkdirTemp("", "wr") // short: it is to hold sockets
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	c := runCmd{
		vmFlags: vmFlags{
			dataFlags: dataFlags{DataDir: data}, runDirFlags: runDirFlags{RunDir: filepath.Join(dir, "run")},
			GuestdDir: dir, GuestCA: filepath.Join(dir, "ca.pem"), MemoryMB: 512,
		},
		Quiet: true, Image: "python", Command: []string{"true"},
	}
	parts := []string{"qemu is not installed", "no guest kernel at " + filepath.Join(data, "kernel", "current"), "WAGGLE_GUEST_CA"}
	err = c.Run(t.Context())
	for _, want := range append(parts, "find guestd") {
		require.ErrorContains(t, err, want)
	}
	require.NotErrorIs(t, err, qemu.ErrNoGuestd, "which would be to say it twice")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "guestd-linux-"+runtime.GOARCH), nil, 0o700))
	err = c.Run(t.Context())
	for _, want := range parts {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "runtimes are")
}
