// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"context"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		packages []string
		timeout  *durationpb.Duration
		bad      string
	}{
		{packages: []string{"requests==2.31.0", "@scope/name@1.2.3", "libc6:amd64"}},
		{bad: "packages"},
		{packages: make([]string, 101), bad: "packages"},
		{packages: []string{"--index-url=http://x"}, bad: "packages"},
		{packages: []string{"a b"}, bad: "packages"},
		{packages: []string{"a\nb"}, bad: "packages"},
		{packages: []string{""}, bad: "packages"},
		{packages: []string{"a"}, timeout: durationpb.New(-1), bad: "timeout"},
	} {
		_, err := check(&guestv1.PackagesInstallRequest{Packages: tc.packages, Timeout: tc.timeout})
		if tc.bad == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, tc.bad)
	}
}

// has is an image with some programs.
type has struct {
	guestv1connect.ProcessClient
	programs []string
}

func (h has) Probe(
	_ context.Context, req *connect.Request[guestv1.ProcessProbeRequest],
) (*connect.Response[guestv1.ProcessProbeResponse], error) {
	found := map[string]string{}
	for _, p := range req.Msg.GetPrograms() {
		if slices.Contains(h.programs, p) {
			found[p] = "/opt/bin/" + p
		}
	}
	return connect.NewResponse(&guestv1.ProcessProbeResponse{Programs: found}), nil
}

// TestPresent: pip is a program and Python, wherever PATH leads.
func TestPresent(t *testing.T) {
	t.Parallel()
	for programs, want := range map[string]string{
		"": "", "python3": "", "python3 pip": "pip", "python3 pip3 apt-get": "pip apt", "npm": "", "node npm apk": "npm apk", "dnf": "dnf",
	} {
		s := New(has{programs: strings.Fields(programs)})
		there, err := s.present(t.Context())
		require.NoError(t, err)
		var names []string
		for _, m := range there {
			names = append(names, managerName(m.kind))
		}
		require.Equal(t, want, strings.Join(names, " "), programs)
	}
}

// TestChoose: who asks for a manager that is not there learns which ones are.
func TestChoose(t *testing.T) {
	t.Parallel()
	const pip, npm, apk = guestv1.PackageManager_PACKAGE_MANAGER_PIP, guestv1.PackageManager_PACKAGE_MANAGER_NPM,
		guestv1.PackageManager_PACKAGE_MANAGER_APK
	s := &Service{execs: has{programs: []string{"sh"}}, managers: []manager{
		{kind: pip, probes: [][]string{{"sh"}}}, {kind: npm, probes: [][]string{{"no-such-program"}}}, {kind: apk, probes: [][]string{{"sh"}}},
	}}
	m, err := s.choose(t.Context(), guestv1.PackageManager_PACKAGE_MANAGER_UNSPECIFIED)
	require.NoError(t, err)
	require.Equal(t, pip, m.kind)
	m, err = s.choose(t.Context(), apk)
	require.NoError(t, err)
	require.Equal(t, apk, m.kind)
	_, err = s.choose(t.Context(), npm)
	require.ErrorContains(t, err, "npm is not in the image, which has pip, apk")
	s.managers = s.managers[1:2]
	_, err = s.choose(t.Context(), npm)
	require.ErrorContains(t, err, "which has no package manager")
	_, err = s.choose(t.Context(), guestv1.PackageManager_PACKAGE_MANAGER_UNSPECIFIED)
	require.ErrorContains(t, err, "no package manager")
}

func TestClassify(t *testing.T) {
	t.Parallel()
	failed := func() *guestv1.Exited { return &guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{ExitCode: 1}} }
	timedOut := failed()
	timedOut.TimedOut = true
	killed := &guestv1.Exited{Outcome: &guestv1.Exited_Signal{Signal: 9}, OomKilled: true}
	for _, tc := range []struct {
		name, tail string
		exited     *guestv1.Exited
		kind       guestv1.InstallFailureKind
		packages   []string
	}{
		{"pip", "ERROR: No matching distribution found for nope==9", failed(),
			guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_UNKNOWN_PACKAGE, []string{"nope==9"}},
		{"apt", "E: Unable to locate package nope\nE: Unable to locate package no2", failed(),
			guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_UNKNOWN_PACKAGE, []string{"nope", "no2"}},
		{"pip offline", "NewConnectionError: ...\nERROR: No matching distribution found for requests", failed(),
			guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_NETWORK, nil},
		{"disk", "OSError: [Errno 28] No space left on device", failed(),
			guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_NO_SPACE, nil},
		{"timeout", "", timedOut, guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_TIMEOUT, nil},
		{"memory", "", killed, guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_OUT_OF_MEMORY, nil},
		{"other", "what?", failed(), guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_UNSPECIFIED, nil},
	} {
		failure := classify(tc.exited, tc.tail)
		require.NotNil(t, failure, tc.name)
		require.Equal(t, tc.kind, failure.GetKind(), tc.name)
		require.Equal(t, tc.packages, failure.GetPackages(), tc.name)
		require.NotZero(t, failure.GetExitCode(), tc.name)
	}
	require.Nil(t, classify(&guestv1.Exited{Outcome: &guestv1.Exited_ExitCode{}}, "fine"))
}

func TestInstalledBy(t *testing.T) {
	t.Parallel()
	pip, apt, dnf := guestv1.PackageManager_PACKAGE_MANAGER_PIP, guestv1.PackageManager_PACKAGE_MANAGER_APT, guestv1.PackageManager_PACKAGE_MANAGER_DNF
	require.Equal(t, []string{"charset-normalizer 3.3.2", "six 1.16.0"},
		installedBy(pip, "Successfully installed charset-normalizer-3.3.2 six-1.16.0"))
	require.Equal(t, []string{"jq 1.6-2.1"}, installedBy(apt, "Setting up jq (1.6-2.1) ..."))
	require.Equal(t, []string{"libc6 2.36-9"}, installedBy(apt, "Setting up libc6:amd64 (2.36-9) ..."))
	require.Equal(t, []string{"two-words 1.2-3"}, installedBy(dnf, "  Installing       : two-words-1.2-3.noarch                    1/1 "))
	require.Equal(t, []string{"perl 5.36-1.fc38"}, installedBy(dnf, "  Upgrading        : perl-4:5.36-1.fc38.x86_64   2/3 "))
	require.Empty(t, installedBy(dnf, "  Verifying        : two-words-1.2-3.noarch                    1/1 "))
	require.Empty(t, installedBy(pip, "Collecting six"))
}

func TestLines(t *testing.T) {
	t.Parallel()
	var got []string
	l := newLines(func(text string) error {
		got = append(got, text)
		return nil
	})
	for _, piece := range []string{"a", "b\r\nc\n", "\n  \nbad\xff", "\n" + strings.Repeat("x", 10000) + "\nend"} {
		require.NoError(t, l.stdout.write([]byte(piece)))
	}
	require.NoError(t, l.stdout.flush())
	require.Equal(t, []string{"ab", "c", "bad?", strings.Repeat("x", maxLine), "end"}, got)
	for range 1000 {
		require.NoError(t, l.stderr.write([]byte("a line of some length\n")))
	}
	require.LessOrEqual(t, len(l.tail()), maxMessage)
	require.True(t, strings.HasSuffix(l.tail(), "length"))
}
