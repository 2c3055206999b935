// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	pip = guestv1.PackageManager_PACKAGE_MANAGER_PIP
	apt = guestv1.PackageManager_PACKAGE_MANAGER_APT
)

// TestPackages installs with the managers of a python environment.
func TestPackages(t *testing.T) {
	a := newAgent(t)
	t.Run("in turns", a.installsInTurns)
	for manager, words := range map[guestv1.PackageManager]string{
		pip: "No matching distribution found", apt: "Unable to locate package",
	} {
		t.Run("unknown to "+managerName(manager), func(t *testing.T) {
			const name = "no-such-package-waggle-x"
			done, err := a.Install(t.Context(), &guestv1.PackagesInstallRequest{Manager: manager, Packages: []string{name}}, guest.InstallProgress{})
			require.NoError(t, err, "the manager failed, not the call")
			require.Equal(t, guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_UNKNOWN_PACKAGE, done.GetFailure().GetKind(), done)
			require.Equal(t, []string{name}, done.GetFailure().GetPackages())
			require.Contains(t, done.GetFailure().GetMessage(), words, "the manager's own words")
			require.Empty(t, done.GetInstalled())
		})
	}
}

// installsInTurns asks for three installs at once. Each has its turn, and the
// workload user has what was installed.
func (a *agent) installsInTurns(t *testing.T) {
	installs := []*guestv1.PackagesInstallRequest{
		{Manager: pip, Packages: []string{"six"}}, {Manager: pip, Packages: []string{"toml"}}, {Manager: apt, Packages: []string{"hello"}},
	}
	var all sync.WaitGroup
	for _, req := range installs {
		name := req.GetPackages()[0]
		all.Go(func() {
			var phases []string
			var last *guestv1.InstallPhase
			lines := 0
			done, err := a.Install(t.Context(), req, guest.InstallProgress{
				Phase: func(p *guestv1.InstallPhase) { phases, last = append(phases, p.GetName()), p },
				Line:  func(string) { lines++ },
			})
			if err != nil || done.GetFailure() != nil {
				t.Errorf("install %s: %v, %v", name, err, done)
				return
			}
			installed := slices.ContainsFunc(done.GetInstalled(), func(s string) bool { return strings.HasPrefix(s, name+" ") })
			if lines == 0 || !installed || phases[0] != "waiting" || phases[len(phases)-1] != "installing" {
				t.Errorf("install %s: %d lines, phases %q, installed %q", name, lines, phases, done.GetInstalled())
			}
			if !slices.Contains(phases, "downloading") || last.GetTotal() != 1 || last.GetCompleted() != 1 {
				t.Errorf("install %s: phases %q, the last is %v", name, phases, last)
			}
		})
	}
	all.Wait()
	require.False(t, t.Failed())
	// What ran is among the execs, in the order of its starts.
	execs, err := a.Execs(t.Context())
	require.NoError(t, err)
	execs = slices.DeleteFunc(execs, func(e *guestv1.ExecInfo) bool { return !strings.HasPrefix(e.GetExecId(), "packages-") })
	require.GreaterOrEqual(t, len(execs), len(installs))
	for i, e := range execs[1:] {
		before := execs[i]
		ended := before.GetStartedAt().AsTime().Add(before.GetExited().GetDuration().AsDuration())
		require.False(t, e.GetStartedAt().AsTime().Before(ended), "%s ran beside %s", e.GetCommand(), before.GetCommand())
	}
	require.Equal(t, "six toml\nHello, world!\n", a.sh(t, "installed", `python3 -c "import six, toml; print(six.__name__, toml.__name__)"; hello`))
}

func managerName(m guestv1.PackageManager) string {
	return strings.ToLower(strings.TrimPrefix(m.String(), "PACKAGE_MANAGER_"))
}
