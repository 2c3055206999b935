// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"path/filepath"
	"regexp"
	"slices"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// command is one run of a manager.
type command struct {
	phase string
	argv  []string
	env   map[string]string
}

// manager says how packages are installed.
type manager struct {
	kind guestv1.PackageManager
	// probes are programs of which the image must have one of each list.
	probes [][]string
	// commands run one after the other; the names of the packages are added to
	// the last one, after "--" where end says so.
	commands []command
	end      bool
	// stale says that the lists which all commands but the last one fetch are
	// missing. Nil: there is one command.
	stale func() bool
	// old is what the manager says when its lists are of another day.
	old *regexp.Regexp
}

// managers in the order in which one is chosen for a request that names none.
var managers = []manager{
	{
		kind:   guestv1.PackageManager_PACKAGE_MANAGER_PIP,
		probes: [][]string{{"python3"}, {"pip3", "pip"}},
		commands: []command{{
			phase: "installing",
			argv: []string{
				"python3", "-m", "pip", "install", "--no-input", "--disable-pip-version-check",
				"--progress-bar", "off", "--root-user-action", "ignore",
			},
			env: map[string]string{
				// The machine is the user's own: what PEP 668 protects from is
				// what was asked for. Older versions do not know the variable.
				"PIP_BREAK_SYSTEM_PACKAGES": "1",
				"PYTHONUNBUFFERED":          "1",
			},
		}},
		end: true,
	},
	{
		kind:   guestv1.PackageManager_PACKAGE_MANAGER_NPM,
		probes: [][]string{{"node"}, {"npm"}},
		commands: []command{{
			phase: "installing",
			argv:  []string{"npm", "install", "--global", "--no-fund", "--no-audit", "--no-progress", "--no-update-notifier"},
		}},
		end: true,
	},
	{
		kind:   guestv1.PackageManager_PACKAGE_MANAGER_APT,
		probes: [][]string{{"apt-get"}},
		commands: []command{
			{phase: "updating", argv: []string{"apt-get", "update", "-q"}, env: aptEnv},
			{
				phase: "installing",
				argv:  []string{"apt-get", "install", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"},
				env:   aptEnv,
			},
		},
		end:   true,
		stale: func() bool { return !exists("/var/lib/apt/lists/*_Packages*") },
		old:   regexp.MustCompile(`404 +Not Found|Unable to locate package|has no installation candidate|Version '[^']*' for '`),
	},
	{
		kind:     guestv1.PackageManager_PACKAGE_MANAGER_APK,
		probes:   [][]string{{"apk"}},
		commands: []command{{phase: "installing", argv: []string{"apk", "add", "--no-progress", "--update-cache"}}},
	},
	{
		kind:     guestv1.PackageManager_PACKAGE_MANAGER_DNF,
		probes:   [][]string{{"dnf"}},
		commands: []command{{phase: "installing", argv: []string{"dnf", "install", "-y", "--setopt=install_weak_deps=False"}}},
	},
}

var aptEnv = map[string]string{"DEBIAN_FRONTEND": "noninteractive"}

func exists(pattern string) bool {
	found, err := filepath.Glob(pattern)
	return err == nil && len(found) > 0
}

// in says whether an image that has these programs has the manager.
func (m *manager) in(programs map[string]string) bool {
	for _, either := range m.probes {
		if !slices.ContainsFunc(either, func(p string) bool { return programs[p] != "" }) {
			return false
		}
	}
	return true
}

// outdated says whether an install may have failed because of old lists.
func (m *manager) outdated(f *guestv1.InstallFailure) bool {
	return m.old != nil && m.old.MatchString(f.GetMessage())
}

// plan returns the commands for some packages, with those that fetch lists if
// refresh says so.
func (m *manager) plan(names []string, refresh bool) []command {
	last := len(m.commands) - 1
	var plan []command
	if refresh {
		plan = append(plan, m.commands[:last]...)
	}
	install := m.commands[last]
	argv := append([]string(nil), install.argv...)
	if m.end {
		argv = append(argv, "--")
	}
	install.argv = append(argv, names...)
	return append(plan, install)
}
