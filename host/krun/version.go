// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/stacklok/waggle/host/krun/spec"
)

var (
	// As in libkrun.so.1.17.3 and libkrun.1.17.3.dylib.
	namePattern = regexp.MustCompile(`^lib[a-z]+\.(?:so\.)?(\d+\.\d+\.\d+)(?:\.dylib)?$`)
	// As in Homebrew's Cellar/libkrun/1.17.4/lib/libkrun.dylib.
	cellarPattern = regexp.MustCompile(`/Cellar/lib[a-z]+/(\d+\.\d+\.\d+)(?:_\d+)?/`)
)

// versionOf reads the version out of a path behind all links. Distributions and
// `make install` name the file so; a bundle may not.
func versionOf(real string) string {
	if m := namePattern.FindStringSubmatch(filepath.Base(real)); m != nil {
		return m[1]
	}
	if m := cellarPattern.FindStringSubmatch(real); m != nil {
		return m[1]
	}
	return ""
}

// compareVersions compares dotted numbers. What is no number counts as 0.
func compareVersions(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		if c := cmp.Compare(part(x, i), part(y, i)); c != 0 {
			return c
		}
	}
	return 0
}

func part(words []string, i int) int {
	if i >= len(words) {
		return 0
	}
	n, err := strconv.Atoi(words[i])
	if err != nil {
		return 0
	}
	return n
}

// inspect says what keeps the library from running machines, without loading it:
// its symbols show its version and with what it was built. waggle-krun asks the
// loaded library again.
func inspect(l Library, goos string) (atLeast string, err error) {
	if l.Version != "" && compareVersions(l.Version, MinVersion) < 0 {
		return "", tooOld(l.Version)
	}
	symbols, err := defined(l.Real, goos)
	if err != nil || symbols == nil {
		return "", err
	}
	return judge(symbols)
}

// kernelSymbol is how libkrun asks libkrunfw for its kernel.
const kernelSymbol = "krunfw_get_kernel"

// inspectFirmware is inspect for libkrunfw.
func inspectFirmware(l Library, goos string) error {
	symbols, err := defined(l.Real, goos)
	if err != nil || symbols == nil {
		return err
	}
	if !symbols[kernelSymbol] {
		return fmt.Errorf("it has no kernel (no %s): install libkrunfw 5 again (docs/libkrun.md)", kernelSymbol)
	}
	return nil
}

// defined are the symbols that a library offers. They are nil where libraries have
// another format, and the loader has to say what is wrong with them.
func defined(path, goos string) (map[string]bool, error) {
	if err := checkAccess(path, false); err != nil {
		return nil, err
	}
	if goos != "linux" {
		return nil, nil
	}
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read library: it is none, or cut off (%w): install it again (docs/libkrun.md)", err)
	}
	defer f.Close()
	if err := fits(f, runtime.GOARCH); err != nil {
		return nil, err
	}
	list, err := f.DynamicSymbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, fmt.Errorf("read symbols: %w", err)
	}
	symbols := make(map[string]bool, len(list))
	for _, s := range list {
		if s.Section != elf.SHN_UNDEF {
			symbols[s.Name] = true
		}
	}
	return symbols, nil
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func fits(f *elf.File, goarch string) error {
	if f.Class != elf.ELFCLASS64 || f.Machine != machines[goarch] {
		return fmt.Errorf("it is for %s (%s), not for %s: install the one of this architecture (docs/libkrun.md)", f.Machine, f.Class, goarch)
	}
	return nil
}

// judge reads the version and the features out of the defined symbols.
func judge(symbols map[string]bool) (atLeast string, err error) {
	if !symbols["krun_create_ctx"] {
		return "", errors.New("it is not libkrun: it has no krun_create_ctx")
	}
	for _, later := range spec.Later {
		if symbols[later.Symbol] {
			atLeast = later.Version
			break
		}
	}
	if atLeast == "" {
		return "", tooOld("before " + MinVersion)
	}
	for _, need := range []struct {
		symbols []string
		option  string
	}{{spec.CoreSymbols, ""}, {spec.BlockSymbols, "BLK=1"}, {spec.NetSymbols, "NET=1"}} {
		for _, s := range need.symbols {
			switch {
			case symbols[s]:
			case need.option == "":
				return atLeast, fmt.Errorf("it has no %s: install libkrun %s or later", s, MinVersion)
			default:
				return atLeast, fmt.Errorf("it has no %s: build libkrun with %s, or install a package that was (docs/libkrun.md)",
					s, need.option)
			}
		}
	}
	return atLeast, nil
}
