// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/stacklok/waggle/host/krun"
	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/krunbundle"
	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/host/remedy"
	"github.com/stacklok/waggle/host/vmm"
)

// The values of WAGGLE_BACKEND.
const (
	backendAuto = "auto"
	backendKrun = "krun"
	backendQEMU = "qemu"
)

// backendFlags say what makes machines.
type backendFlags struct {
	Backend    string `help:"What makes machines: ${enum}. auto: libkrun where it can run, else QEMU." enum:"auto,krun,qemu" default:"auto" env:"WAGGLE_BACKEND"`
	Krun       string `help:"Program that runs libkrun. Default: waggle-krun beside waggle." env:"WAGGLE_KRUN" placeholder:"PATH"`
	KrunLibDir string `help:"Directory of libkrun and libkrunfw. Default: where the task deps:krun puts them, else where libraries are." env:"WAGGLE_KRUN_LIB_DIR" placeholder:"DIR"`
	// KrunKVM is for tests with a library that needs no hypervisor: see
	// krun.Config.
	KrunKVM string `name:"krun-kvm" hidden:"" env:"WAGGLE_KRUN_KVM"`
	QEMU    string `name:"qemu" help:"QEMU binary. Default: qemu-system-ARCH in PATH." env:"WAGGLE_QEMU" placeholder:"PATH"`
	Accel   string `help:"How guest code is run: ${enum}. libkrun has no tcg." enum:"auto,kvm,tcg" default:"auto" env:"WAGGLE_ACCEL"`
}

// krunParts are what machines of libkrun need of this host. Each error says what
// was looked at and names the remedy.
type krunParts struct {
	libs   krun.Libraries
	libDir string // what krun.Find was given to find them, absolute; empty for the usual places
	runner string

	libsErr, runnerErr, hypervisorErr error
	// pairErr is a pair of versions that is known not to work together, linkErr
	// what the host lacks to load the libraries.
	pairErr, linkErr error
}

// inspectKrun looks for all of them, so that one error can name all that is missing.
func (f *backendFlags) inspectKrun(ctx context.Context, data string) krunParts {
	var p krunParts
	p.libs, p.libDir, p.libsErr = findLibraries(f.KrunLibDir, data)
	if p.libsErr == nil {
		if p.libDir == "" { // neither library's own fault
			p.libsErr = oneDirectory(p.libs, os.Getenv("LD_LIBRARY_PATH"))
		}
		p.pairErr = checkPair(p.libs)
		p.linkErr = checkLinkage(p.libs.Krun.Real, p.libs.Firmware.Real)
	}
	p.runner, p.runnerErr = krun.FindRunner(f.Krun)
	if p.runnerErr == nil && runtime.GOOS == "darwin" {
		p.runnerErr = checkSigned(ctx, p.runner)
	}
	p.hypervisorErr = f.probeHypervisor()
	return p
}

// probeHypervisor also looks with the eyes of the user that a machine's VMM gets.
func (f *backendFlags) probeHypervisor() error {
	if f.KrunKVM == "" {
		if err := krun.Probe(); err != nil || runtime.GOOS != "linux" {
			return err
		}
		_, err := vmm.Credential("waggle-krun", nil, vmm.KVMDevice, slog.New(slog.DiscardHandler))
		return err
	}
	kvm, err := os.OpenFile(f.KrunKVM, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the device of WAGGLE_KRUN_KVM: %w", err)
	}
	return kvm.Close()
}

// findLibraries looks where the setting says, else into the bundle of the task
// deps:krun, which somebody put there for Waggle, else where libraries are.
// It also returns what krun.Find was given: the supervisor, which works in another
// directory and knows no settings, has to find the same.
func findLibraries(setting, data string) (libs krun.Libraries, dir string, err error) {
	if setting != "" {
		if dir, err = filepath.Abs(setting); err != nil {
			return libs, "", fmt.Errorf("find WAGGLE_KRUN_LIB_DIR: %w", err)
		}
		libs, err = krun.Find(dir)
		return libs, dir, err
	}
	bundle := krunbundle.Current(krunDir(data))
	inBundle, err := krun.Find(bundle)
	if !errors.Is(err, krun.ErrNoLibrary) {
		return inBundle, bundle, err
	}
	libs, err = krun.Find("")
	libs.Looked = append(inBundle.Looked, libs.Looked...)
	if errors.Is(err, krun.ErrNoLibrary) {
		err = fmt.Errorf("%w; nor in %s, where it is put by `%s`", err, bundle, remedy.Task("deps:krun"))
		libs.Krun.Err = err
	}
	return libs, "", err
}

// oneDirectory refuses libraries that the supervisor would not find again: it is
// told one directory, and gets no LD_LIBRARY_PATH.
func oneDirectory(l krun.Libraries, ldPath string) error {
	a, b := filepath.Dir(l.Krun.Path), filepath.Dir(l.Firmware.Path)
	if a == b || ldPath == "" {
		return nil
	}
	return fmt.Errorf("libkrun is in %s and libkrunfw in %s: machines do not get LD_LIBRARY_PATH; "+
		"put both into one directory and set WAGGLE_KRUN_LIB_DIR to it", a, b)
}

// krunDir holds the bundles of the task deps:krun.
func krunDir(data string) string { return filepath.Join(data, "krun") }

// err is all that is wrong, nil when libkrun can make machines with so many CPUs.
func (p *krunParts) err(accel string, cpus uint32) error { return errors.Join(p.errs(accel, cpus)...) }

// errs are err's, each by itself. Some may be nil.
func (p *krunParts) errs(accel string, cpus uint32) []error {
	var accelErr, cpusErr error
	if accel == string(qemu.AccelTCG) {
		accelErr = errors.New("WAGGLE_ACCEL (--accel) is tcg, and libkrun does not emulate: set it to auto")
	}
	if cpus > spec.MaxCPUs {
		cpusErr = fmt.Errorf("WAGGLE_DEFAULT_CPUS (--cpus) is %d, and libkrun's kernel runs at most %d: lower it", cpus, spec.MaxCPUs)
	}
	all := []error{accelErr, cpusErr}
	if p.libs.Krun.Err != nil || p.libs.Firmware.Err != nil {
		all = append(all, p.libs.Krun.Err, p.libs.Firmware.Err)
	} else {
		all = append(all, p.libsErr)
	}
	return append(all, p.pairErr, p.linkErr, p.runnerErr, p.hypervisorErr)
}

// brief is err in a few words each: doctor has the long ones.
func (p *krunParts) brief(accel string, cpus uint32) []string {
	var words []string
	for _, err := range p.errs(accel, cpus) {
		if err == nil {
			continue
		}
		text := err.Error()
		for _, known := range []error{krun.ErrNoLibrary, krun.ErrNoFirmware, krun.ErrNoRunner} {
			if errors.Is(err, known) {
				text = known.Error()
			}
		}
		words = append(words, text)
	}
	return words
}
