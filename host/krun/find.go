// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/stacklok/waggle/host/krun/spec"
)

// MinVersion is the first libkrun with everything that a machine needs.
const MinVersion = "1.17.3"

// Library is one shared library.
type Library struct {
	// Path is where it was found, Real what that is behind all links.
	Path, Real string
	// Version is what the name of Real says, such as 1.17.3; empty when it says
	// nothing.
	Version string
	// Err is what keeps machines from using it, or why it was not found.
	Err error
}

// Libraries are what Find found.
type Libraries struct {
	Krun, Firmware Library
	// AtLeast is what libkrun's symbols say of its version: 1.17.3, 1.18.0 or
	// 1.19.0, and later. Empty where they cannot be read.
	AtLeast string
	// Looked are the directories that were looked into, in their order.
	Looked []string
}

// names of the two libraries, the one that is meant first.
type names struct{ krun, firmware []string }

func namesFor(goos string) names {
	if goos == "darwin" {
		return names{[]string{"libkrun.1.dylib", "libkrun.dylib"}, []string{"libkrunfw.5.dylib", "libkrunfw.dylib"}}
	}
	// The major versions of the interface. libkrun itself opens the firmware by
	// this name.
	return names{[]string{"libkrun.so.1"}, []string{"libkrunfw.so.5"}}
}

// Find looks for libkrun and libkrunfw: in dir (WAGGLE_KRUN_LIB_DIR) alone if that
// is given; else beside this program, in LD_LIBRARY_PATH and in the usual
// directories of libraries. What it found is returned also with an error, which
// names the remedy and wraps ErrNoLibrary, ErrNoFirmware, or ErrUnfit and
// ErrUnfitFirmware, one or both.
func Find(dir string) (Libraries, error) {
	if dir != "" {
		return find([]string{dir, filepath.Join(dir, "lib64"), filepath.Join(dir, "lib")}, runtime.GOOS)
	}
	self, _ := os.Executable() // without it one place less is looked at
	return find(libraryDirs(runtime.GOOS, runtime.GOARCH, self, os.Getenv), runtime.GOOS)
}

func find(dirs []string, goos string) (Libraries, error) {
	l := Libraries{Looked: dirs}
	want := namesFor(goos)
	var ok bool
	if l.Krun, ok = first(dirs, want.krun); !ok {
		l.Krun.Err = fmt.Errorf("%w: no %s in %s: see docs/libkrun.md, or set WAGGLE_KRUN_LIB_DIR to its directory",
			ErrNoLibrary, want.krun[0], strings.Join(dirs, ", "))
		return l, l.Krun.Err
	}
	// The pair that was installed together is the one that fits.
	dirs = append([]string{filepath.Dir(l.Krun.Path)}, dirs...)
	if l.Firmware, ok = first(dirs, want.firmware); !ok {
		l.Firmware.Err = fmt.Errorf("%w: %s is there, but no %s in %s: install libkrunfw too (docs/libkrun.md), "+
			"or put it beside libkrun", ErrNoFirmware, l.Krun.Path, want.firmware[0], strings.Join(slices.Compact(dirs), ", "))
		return l, l.Firmware.Err
	}
	var err error
	if l.AtLeast, err = inspect(l.Krun, goos); err != nil {
		l.Krun.Err = unfit(ErrUnfit, l.Krun, err)
	}
	if err := inspectFirmware(l.Firmware, goos); err != nil {
		l.Firmware.Err = unfit(ErrUnfitFirmware, l.Firmware, err)
	}
	return l, errors.Join(l.Krun.Err, l.Firmware.Err)
}

// unfit names the library, unless err does.
func unfit(why error, l Library, err error) error {
	if access := (*AccessError)(nil); errors.As(err, &access) {
		return fmt.Errorf("%w: %w", why, err)
	}
	return fmt.Errorf("%w: %s: %w", why, l.Path, err)
}

// first returns the first of names in the first directory that has one.
func first(dirs, names []string) (Library, bool) {
	for _, dir := range dirs {
		for _, name := range names {
			path := filepath.Join(dir, name)
			real, err := filepath.EvalSymlinks(path)
			if err != nil {
				continue
			}
			info, err := os.Stat(real)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			return Library{Path: path, Real: real, Version: versionOf(real)}, true
		}
	}
	return Library{}, false
}

// libraryDirs are absolute, each once. self is this program.
func libraryDirs(goos, goarch, self string, getenv func(string) string) []string {
	var dirs []string
	if self != "" {
		beside := filepath.Dir(self)
		dirs = append(dirs, beside, filepath.Join(beside, "..", "lib64"), filepath.Join(beside, "..", "lib"))
	}
	if goos == "darwin" {
		dirs = append(dirs, filepath.SplitList(getenv("DYLD_LIBRARY_PATH"))...)
		dirs = append(dirs, "/opt/homebrew/lib", "/opt/homebrew/opt/libkrun/lib", "/opt/homebrew/opt/libkrunfw/lib",
			"/opt/local/lib", "/usr/local/lib")
	} else {
		dirs = append(dirs, filepath.SplitList(getenv("LD_LIBRARY_PATH"))...)
		dirs = append(dirs, spec.LibraryDirs(goarch)...)
	}
	var clean []string
	for _, dir := range dirs {
		if dir = filepath.Clean(dir); filepath.IsAbs(dir) && !slices.Contains(clean, dir) {
			clean = append(clean, dir)
		}
	}
	return clean
}

// tooOld says so of a version.
func tooOld(version string) error {
	return errors.New("version " + version + " is too old: " + MinVersion + " or later is needed (docs/libkrun.md)")
}
