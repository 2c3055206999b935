// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/host/remedy"
)

// task is the command of a task. It ends in a comment.
func task(name string) string { return remedy.Task(name) + "   # in Waggle's checkout" }

func qemuPackage() string {
	if runtime.GOARCH == "arm64" {
		return "qemu-system-arm"
	}
	return "qemu-system-x86"
}

func checkPlatform(goos, goarch string) finding {
	const check = "platform"
	here := goos + "/" + goarch
	switch here {
	case "linux/amd64", "linux/arm64":
		return good(check, here)
	case "darwin/arm64":
		return note(check, here+": by libkrun alone, and never tried by its makers (docs/libkrun.md)", "")
	}
	return missing(check, here+": machines run on linux/amd64, linux/arm64 and darwin/arm64 only", "use waggle on a Linux host or in a Linux VM")
}

// qemuRemedy mends a QEMU that is not there or does not fit. What a setting names is
// not mended by a package.
func qemuRemedy(binary string) string {
	if binary != "" {
		return "unset WAGGLE_QEMU   # or set it to another QEMU"
	}
	return remedy.Apt(qemuPackage())
}

// checkQEMU looks for QEMU and for its version. binary is WAGGLE_QEMU.
func checkQEMU(ctx context.Context, binary string) finding {
	const check = "qemu"
	path, err := qemu.FindBinary(binary)
	if err != nil {
		return missing(check, err.Error(), qemuRemedy(binary))
	}
	v, err := qemu.Version(ctx, path)
	if err != nil {
		return missing(check, err.Error(), qemuRemedy(binary))
	}
	return good(check, path+" "+v)
}

// checkFeatures has QEMU make a machine that never runs.
func checkFeatures(ctx context.Context, binary string) finding {
	const check = "qemu features"
	path, err := qemu.FindBinary(binary)
	if err != nil {
		return missing(check, "qemu is not there", qemuRemedy(binary))
	}
	if err := qemu.CheckFeatures(ctx, path); err != nil {
		return missing(check, err.Error(), qemuRemedy(binary)+"; or set WAGGLE_QEMU to another build")
	}
	return good(check, "seccomp sandbox, sealed shared memory, vhost-user-vsock and the virtio devices")
}

// checkIdentity says as whom a VMM will run. QEMU needs no user namespace for it.
func checkIdentity(vmm string, identity func() (string, bool, error)) finding {
	check := strings.ToLower(vmm) + " user"
	who, shared, err := identity()
	switch {
	case err != nil:
		return missing(check, err.Error(), "run waggle as an ordinary user, or give it these capabilities")
	case shared && os.Geteuid() == 0:
		return note(check, vmm+" runs as "+who, "")
	}
	return good(check, vmm+" runs as "+who)
}

// checkMkfs looks where the disks' package looks: sbin is not on the PATH of
// ordinary users.
func checkMkfs() finding {
	const check = "mkfs.ext4"
	if path, ok := findProgram("mkfs.ext4"); ok {
		return good(check, path)
	}
	return missing(check, "scratch disks cannot be made", remedy.Apt("e2fsprogs"))
}

func findProgram(name string) (string, bool) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, true
		}
	}
	return "", false
}

// checkImageTools looks at what the task images needs. It is a note at most: images
// can also be pulled. An ordinary user builds them in a user namespace.
func checkImageTools(euid int) finding {
	const check = "image tools"
	if _, ok := findProgram("mmdebstrap"); !ok {
		return note(check, "reference images cannot be built here: no mmdebstrap", remedy.Apt("mmdebstrap"))
	}
	if euid == 0 {
		return good(check, "mmdebstrap")
	}
	if _, ok := findProgram("newuidmap"); !ok {
		return note(check, "reference images cannot be built as an ordinary user: no newuidmap", remedy.Apt("uidmap"))
	}
	me, err := user.Current()
	if err == nil && !hasSubIDs("/etc/subuid", me) {
		return note(check, "reference images cannot be built as "+me.Username+": no subordinate ids",
			"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "+me.Username)
	}
	if why, remedy := refusedNamespaces(readSetting); why != "" {
		return note(check, "reference images cannot be built as an ordinary user: "+why, remedy)
	}
	return good(check, "mmdebstrap, in a user namespace")
}

// hasSubIDs says whether a file such as /etc/subuid has a range of the user's.
func hasSubIDs(path string, u *user.User) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		if name == u.Username || name == u.Uid {
			return true
		}
	}
	return false
}
