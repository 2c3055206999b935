// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/stacklok/waggle/host/qemu"
)

// How a backend runs guest code, beside qemu.AccelKVM and qemu.AccelTCG.
const accelHVF = "hvf"

// choice is the backend that makes machines, and why it is that one. It is made
// once by whoever makes machines, and travels to their supervisors.
type choice struct {
	backend, accel string
	why            string
	// libDir and runner are libkrun's.
	libDir, runner string
	version        string
}

// String is the one line that says it.
func (c choice) String() string {
	name := "QEMU"
	if c.backend == backendKrun {
		name = strings.TrimSpace("libkrun " + c.version)
	}
	how := map[string]string{string(qemu.AccelTCG): ", emulated", string(qemu.AccelKVM): " on KVM", accelHVF: " on the Mac's hypervisor"}
	return fmt.Sprintf("%s%s: %s", name, how[c.accel], c.why)
}

// log is the line of a server.
func (c choice) log(log *slog.Logger) {
	log.Info("backend chosen", "backend", c.backend, "accelerator", c.accel, "why", c.why)
}

// choose decides what makes machines. It starts none.
func (f *vmFlags) choose(ctx context.Context, data string) (choice, error) {
	if f.Backend == backendQEMU {
		return onQEMU(f.Accel, qemu.ProbeKVM(), []string{"WAGGLE_BACKEND is qemu"}), nil
	}
	parts := f.inspectKrun(ctx, data)
	return f.decide(&parts, qemu.ProbeKVM(), runtime.GOOS)
}

// decide is choose without the looking. noKVM says why QEMU has none.
func (f *vmFlags) decide(parts *krunParts, noKVM error, goos string) (choice, error) {
	err := parts.err(f.Accel, f.CPUs)
	switch {
	case f.Backend == backendQEMU:
		return onQEMU(f.Accel, noKVM, []string{"WAGGLE_BACKEND is qemu"}), nil
	case err == nil && f.Backend == backendKrun:
		return onKrun(parts, goos, "WAGGLE_BACKEND is krun"), nil
	case err == nil:
		return onKrun(parts, goos, "everything it needs is here"), nil
	case f.Backend == backendKrun:
		return choice{}, fmt.Errorf("WAGGLE_BACKEND (--backend) is krun, and libkrun cannot be used here:\n%w\n"+
			"`waggle doctor` looks at each part; WAGGLE_BACKEND=auto takes QEMU instead", err)
	case goos != "linux":
		return choice{}, fmt.Errorf("QEMU is for Linux, and libkrun cannot be used here:\n%w\n"+
			"`waggle doctor` looks at each part", err)
	}
	return onQEMU(f.Accel, noKVM, parts.brief(f.Accel, f.CPUs)), nil
}

func onKrun(p *krunParts, goos, why string) choice {
	accel := string(qemu.AccelKVM)
	if goos == "darwin" {
		accel = accelHVF
	}
	c := choice{
		backend: backendKrun, accel: accel, runner: p.runner, version: p.libs.Krun.Version,
		why: fmt.Sprintf("%s (%s)", why, p.libs.Krun.Path),
	}
	c.libDir = p.libDir
	if dir := filepath.Dir(p.libs.Krun.Path); c.libDir == "" && dir == filepath.Dir(p.libs.Firmware.Path) {
		c.libDir = dir // else the supervisor looks where libraries are, and finds the same
	}
	return c
}

// onQEMU emulates where there is no KVM, unless accel asks for it.
func onQEMU(accel string, noKVM error, why []string) choice {
	if accel == "" || accel == string(qemu.AccelAuto) {
		accel = string(qemu.AccelKVM)
		if noKVM != nil {
			accel = string(qemu.AccelTCG)
			if text := noKVM.Error(); !slices.Contains(why, text) {
				why = append(why, text)
			}
		}
	}
	return choice{backend: backendQEMU, accel: accel, why: strings.Join(why, "; ")}
}
