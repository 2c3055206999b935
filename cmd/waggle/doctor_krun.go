// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/stacklok/waggle/host/krun"
	"github.com/stacklok/waggle/host/vmm"
)

// examineKrun looks at all that libkrun's machines need but the hypervisor.
func (c *doctorCmd) examineKrun(ctx context.Context, data string, p *krunParts) []finding {
	all := []finding{
		checkLibrary("libkrun", p.libs.Krun, p.libs, p.libsErr),
		checkLibrary("libkrunfw", p.libs.Firmware, p.libs, p.libsErr),
		checkVersions(p),
		checkRunner(p, runtime.GOARCH),
	}
	if runtime.GOOS == "darwin" {
		return append(all, checkEntitlements(ctx, p))
	}
	return append(all, checkJail(os.Geteuid()), checkIdentity("waggle-krun", func() (string, bool, error) {
		return vmm.Identity("waggle-krun")
	}))
}

// libraryRemedy installs both libraries.
func libraryRemedy() string {
	if runtime.GOOS == "darwin" {
		return "brew tap slp/krun && brew install libkrun libkrunfw"
	}
	return task("deps:krun") + "; or see docs/libkrun.md"
}

// checkLibrary says which one was found, or all the places where it was looked for.
func checkLibrary(check string, l krun.Library, all krun.Libraries, err error) finding {
	looked := "looked in " + strings.Join(all.Looked, ", ")
	mine := check == "libkrunfw" && errors.Is(err, krun.ErrNoFirmware) ||
		check == "libkrun" && err != nil && !errors.Is(err, krun.ErrNoFirmware)
	switch {
	case mine:
		return missing(check, err.Error(), libraryRemedy())
	case l.Path == "":
		return missing(check, "not looked for without libkrun; "+looked, libraryRemedy())
	}
	detail := l.Path
	if l.Real != l.Path {
		detail += " (" + l.Real + ")"
	}
	switch {
	case l.Version != "":
		detail += ", version " + l.Version
	case check == "libkrun" && all.AtLeast != "":
		detail += ", version " + all.AtLeast + " or later by its symbols"
	default:
		detail += ", which does not say its version"
	}
	return good(check, detail+"; "+looked)
}

// checkVersions looks at the pair, and at what the host has to load it with.
func checkVersions(p *krunParts) finding {
	const check = "libkrun versions"
	switch {
	case p.libs.Krun.Path == "" || p.libs.Firmware.Path == "":
		return missing(check, fmt.Sprintf("libkrun %s or later is needed, and libkrunfw 5", krun.MinVersion), libraryRemedy())
	case p.pairErr != nil:
		return missing(check, p.pairErr.Error(), libraryRemedy())
	case p.linkErr != nil:
		return missing(check, p.linkErr.Error(), "take another build of it: docs/libkrun.md")
	}
	return good(check, fmt.Sprintf("%s or later is needed; nothing is known against this pair, and it can be loaded", krun.MinVersion))
}

// checkRunner looks for waggle-krun, and whether it is for this machine.
func checkRunner(p *krunParts, goarch string) finding {
	const check = "waggle-krun"
	if errors.Is(p.runnerErr, krun.ErrNoRunner) || p.runner == "" {
		return missing(check, fmt.Sprint(p.runnerErr), task("build")+", or set WAGGLE_KRUN")
	}
	if runtime.GOOS != "linux" {
		return good(check, p.runner)
	}
	program, err := elf.Open(p.runner)
	if err != nil {
		return missing(check, p.runner+" is no program: "+err.Error(), task("build"))
	}
	defer program.Close()
	if program.Machine != elfMachines[goarch] {
		return missing(check, fmt.Sprintf("%s is for %s, this machine is %s", p.runner, program.Machine, goarch), task("build"))
	}
	return good(check, p.runner)
}

// checkEntitlements is macOS's.
func checkEntitlements(ctx context.Context, p *krunParts) finding {
	const check = "entitlements"
	if p.runner == "" {
		return missing(check, "no waggle-krun that could have them", task("build"))
	}
	if err := checkSigned(ctx, p.runner); err != nil {
		return missing(check, err.Error(), task("sign"))
	}
	return good(check, strings.Join(entitlements, ", "))
}
