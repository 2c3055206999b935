// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// checkLinkage says what this host lacks to load the libraries. A library of
// another distribution may be whole and yet need a newer libc: go-microvm builds
// its own on the newest Fedora. Nothing is loaded: only waggle-krun does that.
func checkLinkage(libraries ...string) error {
	if runtime.GOOS != "linux" {
		return nil // Mach-O; dyld says it when the machine starts
	}
	return linkage(systemLibraryDirs(runtime.GOARCH), libraries...)
}

func linkage(dirs []string, libraries ...string) error {
	for _, path := range libraries {
		file, err := elf.Open(path)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		err = needs(file, append([]string{filepath.Dir(path)}, dirs...))
		file.Close()
		if err != nil {
			return fmt.Errorf("%s cannot be loaded here: %w; take the package of this distribution, or build it (docs/libkrun.md)", path, err)
		}
	}
	return nil
}

// needs compares the versions of symbols that a library asks for with what the
// libraries that it names define.
func needs(file *elf.File, dirs []string) error {
	names, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read what it needs: %w", err)
	}
	var wanted []elf.DynamicVersionNeed
	if file.SectionByType(elf.SHT_GNU_VERNEED) != nil { // a library that calls nobody has none
		if wanted, err = file.DynamicVersionNeeds(); err != nil {
			return fmt.Errorf("read the versions that it needs: %w", err)
		}
	}
	for _, name := range names {
		path := findLibrary(name, dirs)
		if path == "" {
			return fmt.Errorf("it needs %s, which is not in %s", name, strings.Join(dirs, ", "))
		}
		for _, w := range wanted {
			if w.Name != name {
				continue
			}
			if err := defines(path, w.Needs); err != nil {
				return err
			}
		}
	}
	return nil
}

// defines says which of the versions the library at path does not define.
func defines(path string, versions []elf.DynamicVersionDep) error {
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer file.Close()
	defined, err := file.DynamicVersions()
	if err != nil || len(defined) == 0 {
		return nil // it has none, as musl: the loader decides
	}
	for _, v := range versions {
		weak := v.Flags&elf.VER_FLG_WEAK != 0
		if !weak && !slices.ContainsFunc(defined, func(d elf.DynamicVersion) bool { return d.Name == v.Dep }) {
			return fmt.Errorf("it needs %s, which %s does not have", v.Dep, path)
		}
	}
	return nil
}

func findLibrary(name string, dirs []string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// systemLibraryDirs are where the libraries of the system lie.
func systemLibraryDirs(goarch string) []string {
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[goarch]
	dirs := filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))
	for _, root := range []string{"/lib", "/usr/lib"} {
		dirs = append(dirs, filepath.Join(root, triplet), root+"64", root)
	}
	return append(dirs, "/usr/local/lib64", "/usr/local/lib")
}
