// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDoctor looks at a machine without kernel and guestd: both are named with a
// remedy, and looking has made nothing.
func TestDoctor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := doctorCmd{vmFlags: vmFlags{
		dataFlags: dataFlags{DataDir: filepath.Join(dir, "data")}, runDirFlags: runDirFlags{RunDir: filepath.Join(dir, "run")},
		GuestdDir: dir, MemoryMB: 1,
	}}
	findings := c.examine(t.Context())
	byCheck := map[string]finding{}
	for _, f := range findings {
		require.NotContains(t, byCheck, f.Check)
		byCheck[f.Check] = f
		if f.Status == statusMissing {
			require.NotEmpty(t, f.Remedy, f.Check)
		}
	}
	require.Equal(t, statusMissing, byCheck["kernel"].Status)
	require.Equal(t, statusMissing, byCheck["guestd"].Status)
	require.Equal(t, statusNote, byCheck["images"].Status)
	require.Equal(t, statusOK, byCheck["image policy"].Status, byCheck["image policy"].Detail)
	require.NotEqual(t, statusMissing, byCheck["data directory"].Status, byCheck["data directory"].Detail)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.ErrorIs(t, c.Run(t.Context()), errUnfit)

	var out bytes.Buffer
	c.JSON = true
	require.NoError(t, c.print(&out, findings))
	var again []finding
	require.NoError(t, json.Unmarshal(out.Bytes(), &again))
	require.Equal(t, findings, again)
	out.Reset()
	c.JSON = false
	require.NoError(t, c.print(&out, findings))
	require.Contains(t, out.String(), "remedy: "+byCheck["kernel"].Remedy)
}

func TestCheckPlatform(t *testing.T) {
	t.Parallel()
	for here, want := range map[string]string{
		"linux/amd64": statusOK, "linux/arm64": statusOK, "linux/riscv64": statusMissing,
		"darwin/arm64": statusNote, "darwin/amd64": statusMissing,
	} {
		goos, goarch, _ := strings.Cut(here, "/")
		require.Equal(t, want, checkPlatform(goos, goarch).Status, here)
	}
}

// TestCheckQEMU: programs that are no QEMU, or an old one.
func TestCheckQEMU(t *testing.T) {
	t.Parallel()
	program := func(text string) string {
		path := filepath.Join(t.TempDir(), "qemu")
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
		return path
	}
	for name, tc := range map[string]struct{ path, detail string }{
		"none": {filepath.Join(t.TempDir(), "none"), "WAGGLE_QEMU (--qemu) names no program"},
		"old":  {program("echo QEMU emulator version 6.2.0"), "6.2.0 is too old"},
		"else": {program("echo hello"), "hello"},
	} {
		f := checkQEMU(t.Context(), tc.path)
		require.Equal(t, statusMissing, f.Status, name)
		require.Contains(t, f.Detail, tc.detail)
		require.Contains(t, f.Remedy, "unset WAGGLE_QEMU", "no package mends a setting")
		require.Equal(t, statusMissing, checkFeatures(t.Context(), tc.path).Status, name)
	}
}

func TestCheckMemory(t *testing.T) {
	t.Parallel()
	meminfo := filepath.Join(t.TempDir(), "meminfo")
	require.NoError(t, os.WriteFile(meminfo, []byte("MemTotal:  9999999 kB\nMemAvailable:  2097152 kB\n"), 0o600))
	f := checkMemory(meminfo, 512)
	require.Equal(t, statusOK, f.Status)
	require.Equal(t, "2048 MiB are available: about 3 environments of 512 MiB", f.Detail)
	require.Equal(t, statusOK, checkMemory(meminfo, 2048).Status)
	f = checkMemory(meminfo, 2049)
	require.Equal(t, statusMissing, f.Status)
	require.Contains(t, f.Remedy, "WAGGLE_DEFAULT_MEMORY_MB")
	require.Equal(t, statusNote, checkMemory(filepath.Join(t.TempDir(), "none"), 1).Status)
}

func TestCheckDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	open := filepath.Join(dir, "open")
	require.NoError(t, os.Mkdir(open, 0o755))
	private := filepath.Join(dir, "private")
	require.NoError(t, os.Mkdir(private, 0o700))
	long := filepath.Join(dir, strings.Repeat("x", 100))
	locked := filepath.Join(dir, "locked")
	require.NoError(t, os.Mkdir(locked, 0o500))

	data := func(dir string) finding { return checkDataDir(dir) }
	for name, tc := range map[string]struct {
		check        func(string) finding
		path, detail string
		bad          bool
	}{
		"data, to be made":    {data, filepath.Join(dir, "a", "b"), "free", false},
		"data, there":         {data, open, "free", false},
		"data, a file":        {data, file, "not a directory", true},
		"data, below a file":  {data, filepath.Join(file, "b"), "", true},
		"run, to be made":     {checkRunDir, filepath.Join(dir, "r"), "of 103 bytes", false},
		"run, there":          {checkRunDir, private, "of 103 bytes", false},
		"run, open to others": {checkRunDir, open, "chmod 700", true},
		"run, a file":         {checkRunDir, file, "not a directory", true},
		"run, too long":       {checkRunDir, long, "at most 103", true},
		"run, below a file":   {checkRunDir, filepath.Join(file, "r"), "not a directory", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := tc.check(tc.path)
			require.Equal(t, tc.bad, f.Status == statusMissing, f.Detail)
			require.Contains(t, f.Detail, tc.detail)
			if tc.bad {
				require.Contains(t, f.Remedy, "export WAGGLE_")
			}
		})
	}
	if os.Geteuid() != 0 { // who may write everywhere
		require.Equal(t, statusMissing, checkDataDir(locked).Status)
		require.Equal(t, statusMissing, checkDataDir(filepath.Join(locked, "b")).Status)
	}
}

func TestCheckKernel(t *testing.T) {
	t.Parallel()
	kernel := func(arch string, files ...string) string {
		dir := t.TempDir()
		text := fmt.Sprintf(`{"version":"6.1.0-9-cloud-amd64","arch":%q,"modules":["00-a.ko","01-b.ko"]}`, arch)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "kernel.json"), []byte(text), 0o600))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "modules"), 0o700))
		for _, f := range files {
			text := make([]byte, 0x300)
			copy(text[0x1fe:], "\x55\xaa")
			copy(text[0x202:], "HdrS")
			require.NoError(t, os.WriteFile(filepath.Join(dir, f), text, 0o600))
		}
		return dir
	}
	all := []string{"vmlinux", "modules/00-a.ko", "modules/01-b.ko"}
	whole := kernel("amd64", all...)
	for name, tc := range map[string]struct {
		path, detail string
		bad          bool
	}{
		"whole":           {whole, "6.1.0-9-cloud-amd64 with 2 modules", false},
		"an image":        {filepath.Join(whole, "vmlinux"), "built in", false},
		"a text":          {filepath.Join(whole, "kernel.json"), "no kernel that can be booted", true},
		"none":            {filepath.Join(whole, "none", "current"), "no guest kernel at " + filepath.Join(whole, "none", "current"), true},
		"not prepared":    {t.TempDir(), "kernel.json", true},
		"foreign":         {kernel("arm64", all...), "is for arm64, this machine is amd64", true},
		"without a image": {kernel("amd64", all[1:]...), "lacks vmlinux", true},
		"without modules": {kernel("amd64", all[:2]...), "lacks modules/01-b.ko", true},
	} {
		f := checkKernel(tc.path, "amd64")
		require.Equal(t, tc.bad, f.Status == statusMissing, "%s: %s", name, f.Detail)
		require.Contains(t, f.Detail, tc.detail, name)
		require.Equal(t, tc.bad, strings.Contains(f.Remedy, "task kernel"), name)
	}
}

func TestCheckGuestd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Contains(t, checkGuestd(dir, runtime.GOARCH).Remedy, "task build")
	path := filepath.Join(dir, "guestd-linux-"+runtime.GOARCH)
	require.NoError(t, os.WriteFile(path, []byte("text"), 0o700))
	f := checkGuestd(dir, runtime.GOARCH)
	require.Equal(t, statusMissing, f.Status)
	require.Contains(t, f.Detail, "is no program")
	if runtime.GOOS != "linux" {
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink(self, path))
	require.Equal(t, statusOK, checkGuestd(dir, runtime.GOARCH).Status)
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	require.NoError(t, os.Symlink(self, filepath.Join(dir, "guestd-linux-"+other)))
	f = checkGuestd(dir, other)
	require.Equal(t, statusMissing, f.Status)
	require.Contains(t, f.Detail, "is for EM_")
}

func TestCheckCertificates(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ca.pem")
	require.Equal(t, statusMissing, checkCertificates(path).Status)
	bad := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	require.NoError(t, os.WriteFile(path, bad, 0o600))
	f := checkCertificates(path)
	require.Equal(t, statusMissing, f.Status)
	require.Contains(t, f.Detail, "WAGGLE_GUEST_CA")
	require.NotEmpty(t, f.Remedy)
}

func TestHasSubIDs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "subuid")
	me := &user.User{Username: "bee", Uid: "1234"}
	require.False(t, hasSubIDs(path, me))
	for text, want := range map[string]bool{
		"bee:100000:65536\n": true, "other:1:2\n1234:100000:65536\n": true, "beekeeper:100000:65536\n": false, "": false,
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.Equal(t, want, hasSubIDs(path, me), text)
	}
}
