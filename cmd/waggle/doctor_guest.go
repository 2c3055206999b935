// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stacklok/waggle/host/qemu"
)

// checkKernel looks at a kernel image, or at a directory of images/kernel: its
// version, its architecture, and that all of its modules lie beside it.
func checkKernel(path, goarch string) finding {
	const check = "kernel"
	remedy := task("kernel") + ", with WAGGLE_KERNEL unset; or set WAGGLE_KERNEL to a kernel"
	dir, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) { // which names the first directory that is not there
		return missing(check, "no guest kernel at "+path, remedy)
	}
	if err != nil {
		return missing(check, "no guest kernel: "+err.Error(), remedy)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return missing(check, "no guest kernel: "+err.Error(), remedy)
	}
	if !info.IsDir() {
		if err := qemu.CheckKernel(dir, goarch); err != nil {
			return missing(check, err.Error(), remedy)
		}
		return good(check, dir+", which must have its drivers built in")
	}
	var kernel struct {
		Version string   `json:"version"`
		Arch    string   `json:"arch"`
		Modules []string `json:"modules"`
	}
	if err := readJSON(filepath.Join(dir, "kernel.json"), &kernel); err != nil {
		return missing(check, dir+" is no prepared kernel: "+err.Error(), remedy)
	}
	if kernel.Arch != goarch {
		return missing(check, fmt.Sprintf("%s is for %s, this machine is %s", dir, kernel.Arch, goarch), remedy)
	}
	files := []string{"vmlinux"}
	for _, m := range kernel.Modules {
		files = append(files, filepath.Join("modules", m))
	}
	for _, f := range files {
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Size() == 0 {
			return missing(check, fmt.Sprintf("%s lacks %s", dir, f), "rm -r "+dir+" && "+remedy)
		}
	}
	if err := qemu.CheckKernel(filepath.Join(dir, files[0]), goarch); err != nil {
		return missing(check, err.Error(), "rm -r "+dir+" && "+remedy)
	}
	return good(check, fmt.Sprintf("%s with %d modules, %s", kernel.Version, len(kernel.Modules), dir))
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// elfMachines are the architectures of programs by Go's names.
var elfMachines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkGuestd looks for the agent in dir, or beside waggle.
func checkGuestd(dir, goarch string) finding {
	const check = "guestd"
	path, err := findGuestd(dir, goarch)
	if err != nil {
		return missing(check, err.Error(), task("build"))
	}
	program, err := elf.Open(path)
	if err != nil {
		return missing(check, path+" is no program: "+err.Error(), task("build"))
	}
	defer func() { _ = program.Close() }()
	if program.Machine != elfMachines[goarch] {
		return missing(check, fmt.Sprintf("%s is for %s, guests are %s", path, program.Machine, goarch), task("build"))
	}
	return good(check, path)
}

// checkImages lists the local store. An empty one is no fault.
func (c *doctorCmd) checkImages() finding {
	const check = "images"
	none := note(check, "none on this machine: they are pulled when they are needed", task("images"))
	store, err := c.readStore()
	if err != nil {
		return missing(check, err.Error(), task("images"))
	}
	if store == nil {
		return none
	}
	images, err := store.List()
	if err != nil {
		return missing(check, err.Error(), task("images"))
	}
	if len(images) == 0 {
		return none
	}
	names := make([]string, len(images))
	for i, img := range images {
		names[i] = img.Ref
	}
	return good(check, strings.Join(names, ", "))
}
