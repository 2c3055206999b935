// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Home is the home directory of the workload's user where the image names none:
// working directory of code, and default of ListFiles.
const Home = "/home/sandbox"

// runtime is a language with what runs it. Code is written to a file and run from
// there, not piped and not passed as an argument: tracebacks then show the lines of the
// code, Python's multiprocessing can load it again, its length is not bounded by the
// kernel's 128 KiB for one argument, and standard input stays the program's own.
type runtime struct {
	name string
	// programs are tried in order; the next one only when one is not installed.
	programs [][]string
	// boot are arguments before the file, with which the code does not notice that
	// the file lies elsewhere.
	boot []string
	// beside: the file lies in the working directory, as a program wants it that
	// looks there for what the code imports, and of which no more is known.
	beside bool
	// extension of the file.
	extension string
	env       map[string]string
	// manager is what install_packages uses by default.
	manager guestv1.PackageManager
	// install, where a setting gives it, is run as root with the packages as its
	// last arguments, in place of manager.
	install []string
}

// runtimes are the languages, and the kinds of environments by the same names. In
// this order an environment of an image gets the one that it runs by default.
var runtimes = []runtime{
	{
		name: "python", extension: ".py",
		// -u: what was printed before a timeout is not lost in a buffer.
		programs: [][]string{{"python3", "-u"}, {"python", "-u"}},
		boot:     []string{"-c", bootPython},
		manager:  guestv1.PackageManager_PACKAGE_MANAGER_PIP,
	},
	{
		name: "node", extension: ".js",
		programs: [][]string{{"node"}},
		boot:     []string{"-e", bootNode},
		// require finds what npm installs globally.
		env:     map[string]string{"NODE_PATH": "/usr/local/lib/node_modules:/usr/lib/node_modules"},
		manager: guestv1.PackageManager_PACKAGE_MANAGER_NPM,
	},
	{
		name: "shell", extension: ".sh",
		programs: [][]string{{"bash"}, {"sh"}, {"ash"}},
		manager:  guestv1.PackageManager_PACKAGE_MANAGER_UNSPECIFIED,
	},
}

// Runtimes lists the valid names.
func Runtimes() []string {
	names := make([]string, len(runtimes))
	for i, r := range runtimes {
		names[i] = r.name
	}
	return names
}

// RuntimeSetting changes a runtime, or makes a new one.
type RuntimeSetting struct {
	// Exec is the program that runs a file of code, with its arguments; the file
	// comes as the last one. Nil: what is found in the environment.
	Exec []string
	// Install is the program that installs packages, with its arguments. Nil: what
	// is found.
	Install []string
	// Extension of files of code, such as ".rb". Empty: the one of the runtime.
	Extension string
}

// withSettings returns the runtimes as settings have them, the new ones last.
func withSettings(settings map[string]RuntimeSetting) ([]runtime, error) {
	all := slices.Clone(runtimes)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		i := slices.IndexFunc(all, func(r runtime) bool { return r.name == name })
		if i < 0 {
			if len(settings[name].Exec) == 0 {
				return nil, fmt.Errorf("runtime %s has no command that runs its code", name)
			}
			i = len(all)
			all = append(all, runtime{name: name})
		}
		r, s := &all[i], settings[name]
		if len(s.Exec) > 0 {
			r.programs = [][]string{s.Exec}
			if !r.boots(s.Exec) {
				r.boot, r.beside = nil, name != "shell" // a shell looks for nothing beside its script
			}
		}
		if len(s.Install) > 0 {
			r.install = s.Install
		}
		if s.Extension != "" {
			r.extension = s.Extension
		}
	}
	return all, nil
}

// boots says whether a command of a setting is the interpreter that boot is for, with
// nothing but options.
func (r runtime) boots(command []string) bool {
	program := strings.TrimRight(path.Base(command[0]), "0123456789.")
	return r.boot != nil && program == r.name && !slices.Contains(command, "-m") && !slices.Contains(command, "-c")
}

// Runtimes lists the names that this manager takes as a runtime and a language.
func (m *Manager) Runtimes() []string {
	names := make([]string, len(m.runtimes))
	for i, r := range m.runtimes {
		names[i] = r.name
	}
	return names
}

func (m *Manager) runtimeOf(field, name string) (runtime, error) {
	i := slices.IndexFunc(m.runtimes, func(r runtime) bool { return r.name == name })
	if i < 0 {
		return runtime{}, fmt.Errorf("%w: %s %q is not one of %s", ErrInvalidRuntime, field, plain(name, 64), strings.Join(m.Runtimes(), ", "))
	}
	return m.runtimes[i], nil
}

// managers are the names of package managers.
var managers = map[string]guestv1.PackageManager{
	"pip": guestv1.PackageManager_PACKAGE_MANAGER_PIP,
	"npm": guestv1.PackageManager_PACKAGE_MANAGER_NPM,
	"apt": guestv1.PackageManager_PACKAGE_MANAGER_APT,
	"apk": guestv1.PackageManager_PACKAGE_MANAGER_APK,
	"dnf": guestv1.PackageManager_PACKAGE_MANAGER_DNF,
}

func managerName(m guestv1.PackageManager) string {
	for name, v := range managers {
		if v == m {
			return name
		}
	}
	return ""
}
