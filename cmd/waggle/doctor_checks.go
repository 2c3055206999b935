// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/stacklok/waggle/host/qemu"
)

// examine runs every check; none changes anything.
func (c *doctorCmd) examine(ctx context.Context) []finding {
	dir, err := c.dataDir()
	if err != nil {
		return []finding{{"data directory", statusMissing, err.Error(), "set WAGGLE_DATA_DIR"}}
	}
	return []finding{
		checkQEMU(ctx),
		checkKVM(),
		c.checkKernel(dir),
		c.checkGuestd(),
		checkMkfs(),
		c.checkImages(dir),
	}
}

func checkQEMU(ctx context.Context) finding {
	const remedy = "apt-get install qemu-system-x86"
	path, err := qemu.FindBinary("")
	if err != nil {
		return finding{"qemu", statusMissing, err.Error(), remedy}
	}
	v, err := qemu.Version(ctx, path)
	if err != nil {
		return finding{"qemu", statusMissing, err.Error(), remedy}
	}
	return finding{"qemu", statusOK, path + " " + v, ""}
}

// checkKVM is never more than a note: without it machines are emulated.
func checkKVM() finding {
	if err := qemu.ProbeKVM(); err != nil {
		return finding{"kvm", statusNote, "machines are emulated, which is slow: " + err.Error(), ""}
	}
	return finding{"kvm", statusOK, "machines run on the hardware", ""}
}

func (c *doctorCmd) checkKernel(dir string) finding {
	path := c.Kernel
	if path == "" {
		path = filepath.Join(dir, "kernel", "current")
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return finding{"kernel", statusMissing, "no guest kernel: " + err.Error(), "task kernel, or set WAGGLE_KERNEL"}
	}
	return finding{"kernel", statusOK, target, ""}
}

func (c *doctorCmd) checkGuestd() finding {
	path, err := findGuestd(c.GuestdDir, runtime.GOARCH)
	if err != nil {
		return finding{"guestd", statusMissing, err.Error(), "task build"}
	}
	return finding{"guestd", statusOK, path, ""}
}

// checkMkfs looks where the disks' package looks: sbin is not on the PATH of
// ordinary users.
func checkMkfs() finding {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, "mkfs.ext4")); err == nil {
			return finding{"mkfs.ext4", statusOK, path, ""}
		}
	}
	return finding{"mkfs.ext4", statusMissing, "scratch disks cannot be made", "apt-get install e2fsprogs"}
}

func (c *doctorCmd) checkImages(dir string) finding {
	const remedy = "task images"
	none := finding{"images", statusNote, "none on this machine: they are pulled when they are needed", remedy}
	// Opening the store would make it.
	if _, err := os.Stat(filepath.Join(dir, "images")); errors.Is(err, fs.ErrNotExist) {
		return none
	}
	store, err := c.openStore()
	if err != nil {
		return finding{"images", statusMissing, err.Error(), remedy}
	}
	images, err := store.List()
	if err != nil {
		return finding{"images", statusMissing, err.Error(), remedy}
	}
	if len(images) == 0 {
		return none
	}
	names := make([]string, len(images))
	for i, img := range images {
		names[i] = img.Ref
	}
	return finding{"images", statusOK, strings.Join(names, ", "), ""}
}
