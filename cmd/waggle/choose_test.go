// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun"
)

// wholeKrun is a host where libkrun has all that it needs.
func wholeKrun() krunParts {
	return krunParts{runner: "/bees/waggle-krun", libs: krun.Libraries{
		Krun:     krun.Library{Path: "/usr/lib64/libkrun.so.1", Version: "1.17.3"},
		Firmware: krun.Library{Path: "/usr/lib64/libkrunfw.so.5", Version: "5.2.0"},
	}}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	noKVM := errors.New("/dev/kvm does not exist: load the module")
	noLibrary := fmt.Errorf("%w: no libkrun.so.1 in /a, /b: see docs/libkrun.md", krun.ErrNoLibrary)
	noRunner := fmt.Errorf("%w: stat /bees/waggle-krun: no such file; run `task build`", krun.ErrNoRunner)
	for name, tc := range map[string]struct {
		flags vmFlags
		goos  string
		spoil func(*krunParts)
		noKVM error
		want  string // of choice.String
		err   []string
	}{
		"auto takes libkrun": {want: "libkrun 1.17.3 on KVM: everything it needs is here (/usr/lib64/libkrun.so.1)"},
		"on a Mac":           {goos: "darwin", want: "libkrun 1.17.3 on the Mac's hypervisor: everything it needs is here (/usr/lib64/libkrun.so.1)"},
		"asked for":          {flags: with("krun", "auto", 1), want: "libkrun 1.17.3 on KVM: WAGGLE_BACKEND is krun (/usr/lib64/libkrun.so.1)"},
		"not asked for":      {flags: with("qemu", "auto", 1), want: "QEMU on KVM: WAGGLE_BACKEND is qemu"},
		"not asked for, and no KVM": {
			flags: with("qemu", "auto", 1), noKVM: noKVM, want: "QEMU, emulated: WAGGLE_BACKEND is qemu; " + noKVM.Error(),
		},
		"no library":               {spoil: func(p *krunParts) { p.libsErr = noLibrary }, want: "QEMU on KVM: libkrun is not installed"},
		"neither library nor kvm":  {spoil: func(p *krunParts) { p.libsErr, p.hypervisorErr = noLibrary, noKVM }, noKVM: noKVM, want: "QEMU, emulated: libkrun is not installed; " + noKVM.Error()},
		"no runner":                {spoil: func(p *krunParts) { p.runnerErr = noRunner }, want: "QEMU on KVM: no waggle-krun"},
		"a bad pair":               {spoil: func(p *krunParts) { p.pairErr = errors.New("a bad pair") }, want: "QEMU on KVM: a bad pair"},
		"a library of elsewhere":   {spoil: func(p *krunParts) { p.linkErr = errors.New("needs GLIBC_9") }, want: "QEMU on KVM: needs GLIBC_9"},
		"emulation is asked for":   {flags: with("auto", "tcg", 1), want: "QEMU, emulated: WAGGLE_ACCEL (--accel) is tcg, and libkrun does not emulate: set it to auto"},
		"more CPUs than its limit": {flags: with("auto", "auto", 17), want: "QEMU on KVM: WAGGLE_DEFAULT_CPUS (--cpus) is 17, and libkrun's kernel runs at most 16: lower it"},
		"KVM is asked for":         {flags: with("qemu", "kvm", 1), noKVM: noKVM, want: "QEMU on KVM: WAGGLE_BACKEND is qemu"},
		"asked for, and all is missing": {
			flags: with("krun", "auto", 1), noKVM: noKVM,
			spoil: func(p *krunParts) { p.libsErr, p.runnerErr, p.hypervisorErr = noLibrary, noRunner, noKVM },
			err:   []string{"WAGGLE_BACKEND (--backend) is krun", "no libkrun.so.1 in /a, /b", "task build", "load the module", "WAGGLE_BACKEND=auto"},
		},
		"asked for, and emulation too": {flags: with("krun", "tcg", 1), err: []string{"WAGGLE_ACCEL"}},
		"a Mac without libkrun": {
			goos: "darwin", noKVM: noKVM, spoil: func(p *krunParts) { p.libsErr = noLibrary }, err: []string{"QEMU is for Linux", "no libkrun.so.1 in /a, /b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parts := wholeKrun()
			if tc.spoil != nil {
				tc.spoil(&parts)
			}
			if tc.goos == "" {
				tc.goos = "linux"
			}
			c, err := tc.flags.decide(&parts, tc.noKVM, tc.goos)
			if tc.err != nil {
				for _, want := range tc.err {
					require.ErrorContains(t, err, want)
				}
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, c.String())
		})
	}
}

// with are flags; those of tests that say nothing are empty, which is auto.
func with(backend, accel string, cpus uint32) vmFlags {
	return vmFlags{backendFlags: backendFlags{Backend: backend, Accel: accel}, CPUs: cpus}
}

// TestChoiceTravels: the supervisor gets what was chosen, and chooses nothing.
func TestChoiceTravels(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "guestd-linux-"+runtime.GOARCH), []byte("x"), 0o755))
	f := with("auto", "auto", 1)
	f.GuestdDir, f.QEMU, f.KrunKVM = dir, "a-qemu", "/dev/null"
	settings := func(on choice) (s backendSettings) {
		t.Helper()
		raw, err := f.describe("/data", on)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, &s))
		return s
	}
	parts := wholeKrun()
	s := settings(onKrun(&parts, "linux", ""))
	require.Equal(t, []string{"krun", "kvm", "/bees/waggle-krun", "/usr/lib64", "/dev/null", "", ""},
		[]string{s.Backend, s.Accel, s.Runner, s.LibDir, s.KVM, s.QEMU, s.Kernel})
	require.False(t, s.emulated())
	parts.libs.Firmware.Path = "/lib64/libkrunfw.so.5"
	require.Empty(t, settings(onKrun(&parts, "linux", "")).LibDir)

	s = settings(onQEMU("auto", errors.New("no KVM"), nil))
	require.Equal(t, []string{"qemu", "tcg", "", "", "", "a-qemu", "/data/kernel/current"},
		[]string{s.Backend, s.Accel, s.Runner, s.LibDir, s.KVM, s.QEMU, s.Kernel})
	require.True(t, s.emulated())
	_, err := s.open(nil)
	require.ErrorContains(t, err, "a-qemu")
	s.Backend = "vmware"
	_, err = s.open(nil)
	require.ErrorContains(t, err, `"vmware" is unknown`)
}

func TestCheckPair(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		krun, atLeast, firmware string
		bad                     bool
	}{
		{"1.17.3", "1.17.3", "5.2.0", false},
		{"1.17.3", "1.17.3", "5.4.0", false},
		{"1.17.3", "1.17.3", "5.5.0", true},
		{"1.18.0", "1.18.0", "5.10.0", true},
		{"1.18.1", "1.18.0", "5.5.0", false},
		{"1.19.0", "1.19.0", "5.5.0", false},
		{"", "1.17.3", "5.5.0", true},
		{"", "1.18.0", "5.5.0", false}, // may be 1.18.1
		{"", "1.19.0", "6.0.0", false},
		{"1.17.3", "1.17.3", "", false},
		{"", "", "5.5.0", false},
	} {
		err := checkPair(krun.Libraries{
			Krun: krun.Library{Version: tc.krun}, AtLeast: tc.atLeast, Firmware: krun.Library{Version: tc.firmware},
		})
		require.Equal(t, tc.bad, err != nil, "%+v", tc)
		if tc.bad {
			require.ErrorContains(t, err, tc.firmware)
			require.ErrorContains(t, err, "1.18.1 or later")
		}
	}
}

func TestOneDirectory(t *testing.T) {
	t.Parallel()
	l := wholeKrun().libs
	require.NoError(t, oneDirectory(l, "/usr/lib64"))
	l.Firmware.Path = "/elsewhere/libkrunfw.so.5"
	require.NoError(t, oneDirectory(l, ""))
	require.ErrorContains(t, oneDirectory(l, "/elsewhere"), "WAGGLE_KRUN_LIB_DIR")
}

// TestFindLibraries: the setting goes alone, the bundle comes first, and an error
// has all places.
func TestFindLibraries(t *testing.T) {
	t.Parallel()
	data, empty := t.TempDir(), t.TempDir()
	libs, _, err := findLibraries(empty, data)
	require.ErrorIs(t, err, krun.ErrNoLibrary)
	require.Contains(t, libs.Looked, empty)
	require.NotContains(t, fmt.Sprint(libs.Looked), data)

	libs, _, err = findLibraries("", data)
	bundle := filepath.Join(data, "krun", "current")
	require.Equal(t, bundle, libs.Looked[0])
	require.Greater(t, len(libs.Looked), 3)
	if errors.Is(err, krun.ErrNoLibrary) { // the host has none either
		require.ErrorContains(t, err, bundle)
		require.ErrorContains(t, err, "deps:krun")
	}
	require.NoError(t, os.MkdirAll(bundle, 0o755))
	library := map[string]string{"linux": "libkrun.so.1", "darwin": "libkrun.1.dylib"}[runtime.GOOS]
	require.NoError(t, os.WriteFile(filepath.Join(bundle, library), nil, 0o644))
	libs, _, err = findLibraries("", data)
	require.ErrorIs(t, err, krun.ErrNoFirmware, "it is the bundle's, though it is not whole")
	require.Equal(t, filepath.Join(bundle, library), libs.Krun.Path)
}

// TestLinkage has a library that asks for what a second one does not define.
func TestLinkage(t *testing.T) {
	t.Parallel()
	gcc, err := exec.LookPath("gcc")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("no gcc here: apt-get install gcc libc6-dev")
	}
	build := func(dir, version string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for name, text := range map[string]string{
			"base.c": "int bee(void) { return 1; }", "base.map": version + " { global: bee; local: *; };",
			"top.c": "int bee(void); int hive(void) { return bee(); }",
		} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		for _, args := range [][]string{
			{"-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libbase.so", "-Wl,--version-script=base.map", "-o", "libbase.so", "base.c"},
			{"-shared", "-fPIC", "-nostdlib", "-o", "libtop.so", "top.c", "libbase.so"},
		} {
			cmd := exec.CommandContext(t.Context(), gcc, args...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
	dir := t.TempDir()
	old, fresh, alone := filepath.Join(dir, "old"), filepath.Join(dir, "new"), filepath.Join(dir, "alone")
	build(old, "HIVE_1")
	build(fresh, "HIVE_2")
	require.NoError(t, linkage(nil, filepath.Join(fresh, "libtop.so"), filepath.Join(fresh, "libbase.so")))
	require.NoError(t, os.Mkdir(alone, 0o755))
	top := filepath.Join(alone, "libtop.so")
	require.NoError(t, os.Rename(filepath.Join(fresh, "libtop.so"), top))
	err = linkage([]string{old}, top)
	require.ErrorContains(t, err, "it needs HIVE_2, which "+filepath.Join(old, "libbase.so")+" does not have")
	require.ErrorContains(t, err, "docs/libkrun.md")
	require.NoError(t, linkage([]string{fresh}, top))
	require.ErrorContains(t, linkage(nil, top), "needs libbase.so, which is not in "+alone)
	require.ErrorContains(t, linkage(nil, filepath.Join(old, "top.c")), "read ")
}

func TestEntitled(t *testing.T) {
	t.Parallel()
	plist, err := os.ReadFile("../../scripts/entitlements.plist")
	require.NoError(t, err)
	require.NoError(t, entitled("/x", plist, nil))
	for _, text := range []string{"", "<key>com.apple.security.hypervisor</key> <false/>"} {
		err := entitled("/x", []byte(text), nil)
		require.ErrorContains(t, err, "/x lacks the entitlement com.apple.security.hypervisor")
		require.ErrorContains(t, err, "task sign")
	}
	require.ErrorContains(t, entitled("/x", plist, errors.New("not signed at all")), "not signed at all")
}

// TestLibrariesForSupervisor: what a relative setting finds, libkrunfw in a directory
// below it included, is what the supervisor is told, which works elsewhere. Not
// parallel: it changes the directory.
func TestLibrariesForSupervisor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere libraries have other names")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "krun", "lib"), 0o755))
	_, at, err := findLibraries("krun", t.TempDir())
	require.ErrorIs(t, err, krun.ErrNoLibrary)
	require.Equal(t, filepath.Join(dir, "krun"), at)
	c := onKrun(&krunParts{libDir: at, libs: krun.Libraries{
		Krun: krun.Library{Path: at + "/libkrun.so.1"}, Firmware: krun.Library{Path: at + "/lib/libkrunfw.so.5"},
	}}, "linux", "")
	require.Equal(t, at, c.libDir)
}
