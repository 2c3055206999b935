// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun"
	"github.com/stacklok/waggle/host/qemu"
)

// TestDoctorBackends: what libkrun lacks is a note while QEMU makes machines, and
// missing when libkrun was asked for; then QEMU's is the note.
func TestDoctorBackends(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere there is libkrun alone")
	}
	look := func(backend string) map[string]finding {
		dir := t.TempDir()
		c := doctorCmd{vmFlags: vmFlags{
			dataFlags: dataFlags{DataDir: dir}, runDirFlags: runDirFlags{RunDir: filepath.Join(dir, "run")},
			backendFlags: backendFlags{Backend: backend, KrunLibDir: dir, Krun: filepath.Join(dir, "none"), QEMU: filepath.Join(dir, "none")},
		}}
		all := map[string]finding{}
		for _, f := range c.examine(t.Context()) {
			all[f.Check] = f
		}
		return all
	}
	krunParts := []string{"libkrun", "libkrunfw", "libkrun versions", "waggle-krun"}
	qemuParts := []string{"qemu", "qemu features", "kernel"}
	for backend, tc := range map[string]struct{ missing, notes []string }{
		"auto": {qemuParts, krunParts}, "qemu": {qemuParts, krunParts}, "krun": {krunParts, qemuParts},
	} {
		all := look(backend)
		for _, check := range tc.missing {
			require.Equal(t, statusMissing, all[check].Status, "%s: %+v", backend, all[check])
		}
		for _, check := range tc.notes {
			require.Equal(t, statusNote, all[check].Status, "%s: %+v", backend, all[check])
			require.NotEmpty(t, all[check].Remedy)
			require.Contains(t, all[check].Detail, "not used, and could not be: ")
		}
		require.Contains(t, all["libkrun"].Remedy, "deps:krun")
	}
	krunFailed := look("krun")["backend"]
	require.Equal(t, statusMissing, krunFailed.Status)
	require.Contains(t, krunFailed.Detail, "WAGGLE_BACKEND (--backend) is krun")
	require.NotContains(t, krunFailed.Detail, "\n")
	auto := look("auto")["backend"]
	require.Equal(t, statusOK, auto.Status)
	require.Regexp(t, "^QEMU.*: libkrun is not installed; no waggle-krun", auto.Detail)
}

func TestCheckLibrary(t *testing.T) {
	t.Parallel()
	l := krun.Libraries{
		Krun:     krun.Library{Path: "/a/libkrun.so.1", Real: "/a/libkrun.so.1.17.3", Version: "1.17.3"},
		Firmware: krun.Library{Path: "/a/libkrunfw.so.5", Real: "/a/libkrunfw.so.5"},
		Looked:   []string{"/x", "/a"}, AtLeast: "1.17.3",
	}
	f := checkLibrary("libkrun", l.Krun, l)
	require.Equal(t, good("libkrun", "/a/libkrun.so.1 (/a/libkrun.so.1.17.3), version 1.17.3; looked in /x, /a"), f)
	f = checkLibrary("libkrunfw", l.Firmware, l)
	require.Equal(t, good("libkrunfw", "/a/libkrunfw.so.5, which does not say its version; looked in /x, /a"), f)
	l.Krun.Version = ""
	require.Contains(t, checkLibrary("libkrun", l.Krun, l).Detail, "version 1.17.3 or later by its symbols")
	parts := krunParts{libs: l}
	require.Equal(t, statusOK, checkVersions(&parts).Status)
	parts.linkErr = errors.New("it needs GLIBC_9")
	require.Equal(t, "it needs GLIBC_9", checkVersions(&parts).Detail)
	parts.pairErr = errors.New("a bad pair")
	require.Equal(t, missing("libkrun versions", "a bad pair", libraryRemedy()), checkVersions(&parts))
	parts.libsErr = errors.New("two directories")
	require.Equal(t, "two directories", checkVersions(&parts).Detail)

	tooOld := fmt.Errorf("%w: version 1.16.0 is too old", krun.ErrUnfit)
	parts = krunParts{libs: l}
	parts.libs.Krun.Err = tooOld
	require.Equal(t, missing("libkrun", tooOld.Error(), libraryRemedy()), checkLibrary("libkrun", parts.libs.Krun, l))
	f = checkVersions(&parts)
	require.Equal(t, statusMissing, f.Status, "it is not said of a pair that it can be loaded where one was refused")
	require.NotContains(t, f.Detail, "nothing is known against")
	l.Firmware = krun.Library{Err: fmt.Errorf("%w: no libkrunfw.so.5 in /x, /a", krun.ErrNoFirmware)}
	f = checkLibrary("libkrunfw", l.Firmware, l)
	require.Equal(t, statusMissing, f.Status)
	require.Contains(t, f.Detail, "/x, /a")
	require.Contains(t, checkLibrary("libkrunfw", krun.Library{}, l).Detail, "not looked for without libkrun")
}

// TestUnusableKrun: what would fail at the first machine is said by doctor, with the
// command that mends it, keeps auto from libkrun, in one line that says why, and a
// server that asks for libkrun from starting.
func TestUnusableKrun(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("libraries and programs of Linux")
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "libkrun.so.1.17.3"), []byte("text"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "libkrunfw.so.5.2.0"), nil, 0))
	for _, name := range []string{"libkrun.so.1.17.3", "libkrunfw.so.5.2.0"} {
		require.NoError(t, os.Symlink(name, filepath.Join(dir, name[:strings.LastIndex(name, ".so.")+5])))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	f := with("auto", "auto", 1)
	f.KrunLibDir, f.Krun, f.KrunKVM = dir, self, "/dev/null"
	parts := f.inspectKrun(t.Context(), dir)
	all := map[string]finding{}
	for _, one := range (&doctorCmd{vmFlags: f}).examineKrun(t.Context(), dir, &parts) {
		all[one.Check] = one
	}
	firmware, who := filepath.Join(dir, "libkrunfw.so.5.2.0"), "you"
	if os.Geteuid() == 0 {
		who = "the VMM runs as a user of its own, which"
	}
	for check, want := range map[string]struct{ detail, remedy string }{
		"libkrun":          {"it is none, or cut off", libraryRemedy()},
		"libkrunfw":        {"cannot run machines: " + firmware + ": " + who + " may not read it (mode 0000): run `", "chmod a+r " + firmware},
		"libkrun versions": {"not looked at", "chmod a+r " + firmware},
		"waggle-krun":      {self + " is not waggle-krun, but \"github.com/stacklok/waggle/cmd/waggle", "unset WAGGLE_KRUN"},
	} {
		require.Equal(t, statusMissing, all[check].Status, check)
		require.Contains(t, all[check].Detail, want.detail, check)
		require.Contains(t, all[check].Remedy, want.remedy, check)
	}
	on, err := f.decide(&parts, nil, "linux")
	require.NoError(t, err)
	require.Equal(t, backendQEMU, on.backend)
	require.NotContains(t, on.String(), "\n")
	f.Backend = backendKrun
	_, refused := f.choose(t.Context(), dir)
	for _, check := range []string{"libkrun", "libkrunfw", "waggle-krun"} {
		require.Contains(t, on.String(), all[check].Detail)
		require.ErrorContains(t, refused, all[check].Detail, "the same words")
	}
}

func TestCheckRunner(t *testing.T) {
	t.Parallel()
	require.Equal(t, good("waggle-krun", "/bees/waggle-krun"), checkRunner(&krunParts{runner: "/bees/waggle-krun"}, ""))
	_, noRunner := krun.FindRunner(filepath.Join(t.TempDir(), "none"))
	f := checkRunner(&krunParts{runnerErr: noRunner}, "")
	require.Equal(t, statusMissing, f.Status)
	require.Contains(t, f.Remedy, "task build")
}

func TestJailFinding(t *testing.T) {
	t.Parallel()
	refused := errors.New("operation not permitted")
	setting := func(path, value string) func(string) string {
		return func(asked string) string {
			if asked == path {
				return value
			}
			return ""
		}
	}
	none := setting("", "")
	for name, tc := range map[string]struct {
		euid           int
		err            error
		landlock       int
		read           func(string) string
		status, detail string
		remedy         string
	}{
		"root":                {0, nil, 0, none, statusOK, "namespaces", ""},
		"a user":              {1000, nil, 4, none, statusOK, "user namespace first", ""},
		"Ubuntu":              {1000, refused, 4, setting(namespaceSettings[2].path, "1"), statusNote, "Landlock alone", "apparmor_restrict_unprivileged_userns=0"},
		"no namespaces":       {1000, refused, 1, setting(namespaceSettings[0].path, "0"), statusNote, "max_user_namespaces is 0", "user.max_user_namespaces"},
		"Debian, long ago":    {1000, refused, 0, setting(namespaceSettings[1].path, "0"), statusMissing, "no Landlock", "unprivileged_userns_clone=1"},
		"a container's root":  {0, refused, 1, setting(namespaceSettings[0].path, "0"), statusNote, "operation not permitted", "CAP_SYS_ADMIN"},
		"neither of them":     {1000, refused, 0, none, statusMissing, "operation not permitted", "CAP_SYS_ADMIN"},
		"a setting that is 1": {1000, refused, 1, setting(namespaceSettings[1].path, "1"), statusNote, "operation not permitted", "CAP_SYS_ADMIN"},
	} {
		f := jailFinding(tc.euid, tc.err, tc.landlock, tc.read)
		require.Equal(t, tc.status, f.Status, name)
		require.Contains(t, f.Detail, tc.detail, name)
		require.Contains(t, f.Remedy, tc.remedy, name)
	}
}

func TestCheckHypervisor(t *testing.T) {
	t.Parallel()
	require.Equal(t, statusOK, checkHypervisor("tcg", false, nil).Status)
	f := checkHypervisor("auto", true, errors.New("no hypervisor"))
	require.Equal(t, statusMissing, f.Status)
	require.Equal(t, "no hypervisor", f.Detail)
	require.Contains(t, f.Remedy, "WAGGLE_BACKEND=auto")
	auto, kvm := checkHypervisor("auto", false, nil), checkHypervisor("kvm", false, nil)
	if qemu.ProbeKVM() == nil {
		require.Equal(t, statusOK, auto.Status)
		require.Equal(t, statusOK, kvm.Status)
		return
	}
	require.Equal(t, statusNote, auto.Status)
	require.Equal(t, statusMissing, kvm.Status)
	require.Contains(t, kvm.Remedy, "WAGGLE_ACCEL=auto")
}

func TestCheckNested(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string]struct{ status, detail, remedy string }{
		"fpu vmx":            {statusOK, "no virtual machine", ""},
		"fpu":                {statusNote, "no hardware virtualisation", "firmware"},
		"fpu hypervisor svm": {statusOK, "may have machines of its own", ""},
		"fpu hypervisor":     {statusNote, "without nested virtualisation", "nested=1"},
	} {
		path := filepath.Join(t.TempDir(), "cpuinfo")
		require.NoError(t, os.WriteFile(path, []byte("processor\t: 0\nflags\t\t: "+flags+"\nprocessor\t: 1\nflags\t\t: vmx\n"), 0o600))
		f := checkNested("amd64", path)
		require.Equal(t, want.status, f.Status, flags)
		require.Contains(t, f.Detail, want.detail)
		require.Contains(t, f.Remedy, want.remedy)
	}
	require.Equal(t, statusOK, checkNested("arm64", "/proc/cpuinfo").Status)
}

func TestCheckCPUCount(t *testing.T) {
	t.Parallel()
	require.Equal(t, good("cpus", "2; an environment gets 2"), checkCPUCount(2, 2))
	require.Equal(t, note("cpus", "2; an environment gets 3", "export WAGGLE_DEFAULT_CPUS=2"), checkCPUCount(2, 3))
}
