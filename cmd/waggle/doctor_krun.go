// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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
		checkLibrary("libkrun", p.libs.Krun, p.libs),
		checkLibrary("libkrunfw", p.libs.Firmware, p.libs),
		checkVersions(p),
		checkRunner(p, c.Krun),
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

// remedyOf mends rights where they are what is wrong, and else is other.
func remedyOf(err error, other string) string {
	var access *krun.AccessError
	if errors.As(err, &access) {
		return access.Remedy()
	}
	return other
}

// checkLibrary says which one was found, or all the places where it was looked for.
func checkLibrary(check string, l krun.Library, all krun.Libraries) finding {
	looked := "looked in " + strings.Join(all.Looked, ", ")
	switch {
	case l.Err != nil:
		return missing(check, l.Err.Error(), remedyOf(l.Err, libraryRemedy()))
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

// checkVersions looks at the pair, and at what the host has to load it with. Of
// libraries that cannot be used by themselves, nothing more is known.
func checkVersions(p *krunParts) finding {
	const check = "libkrun versions"
	lib, firmware := p.libs.Krun, p.libs.Firmware
	switch {
	case lib.Path == "" || firmware.Path == "":
		return missing(check, fmt.Sprintf("libkrun %s or later is needed, and libkrunfw 5", krun.MinVersion), libraryRemedy())
	case lib.Err != nil || firmware.Err != nil:
		return missing(check, "not looked at: one that is found cannot be used, as said above",
			remedyOf(errors.Join(lib.Err, firmware.Err), libraryRemedy()))
	case p.libsErr != nil:
		return missing(check, p.libsErr.Error(), "export WAGGLE_KRUN_LIB_DIR=DIR   # which holds both")
	case p.pairErr != nil:
		return missing(check, p.pairErr.Error(), libraryRemedy())
	case p.linkErr != nil:
		return missing(check, p.linkErr.Error(), "take another build of it: docs/libkrun.md")
	}
	return good(check, fmt.Sprintf("%s or later is needed; nothing is known against this pair, and it can be loaded", krun.MinVersion))
}

// checkRunner looks for waggle-krun. Whether it is signed is checkEntitlements'.
// setting is WAGGLE_KRUN: what it names is not mended by a build.
func checkRunner(p *krunParts, setting string) finding {
	const check = "waggle-krun"
	if p.runner == "" {
		mend := task("build") + ", or set WAGGLE_KRUN"
		if setting != "" {
			mend = "unset WAGGLE_KRUN   # or set it to the path of waggle-krun"
		}
		return missing(check, fmt.Sprint(p.runnerErr), remedyOf(p.runnerErr, mend))
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
