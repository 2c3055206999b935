// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/egress"
	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/remedy"
	"github.com/stacklok/waggle/host/socket"
	"github.com/stacklok/waggle/host/supervisor"
)

const (
	// littleDataFree earns a note, in bytes: a Python environment with numpy and
	// pandas writes some 300 MiB, the disk of an image has as much.
	littleDataFree = 2 << 30
	// vmmOverheadMiB is what QEMU and the supervisor take besides the guest's
	// memory, measured without KVM.
	vmmOverheadMiB = 100
)

// checkCPUCount: more virtual CPUs than there are only wait for each other.
func checkCPUCount(have int, cpus uint32) finding {
	const check = "cpus"
	detail := fmt.Sprintf("%d; an environment gets %d", have, cpus)
	if uint32(have) < cpus {
		return note(check, detail, fmt.Sprintf("export WAGGLE_DEFAULT_CPUS=%d", have))
	}
	return good(check, detail)
}

// checkMemory compares what the host can give with what an environment is given.
func checkMemory(meminfo string, memoryMiB uint32) finding {
	const check = "memory"
	free, err := memInfoMiB(meminfo, "MemAvailable:")
	if err != nil {
		return note(check, "unknown: "+err.Error(), "")
	}
	if free < uint64(memoryMiB) {
		return missing(check, fmt.Sprintf("%d MiB are available, an environment gets %d MiB", free, memoryMiB),
			"end other programs, or: export WAGGLE_DEFAULT_MEMORY_MB=256")
	}
	return good(check, fmt.Sprintf("%d MiB are available: about %d environments of %d MiB",
		free, max(1, free/uint64(memoryMiB+vmmOverheadMiB)), memoryMiB))
}

// meminfo is what the kernel says of the host's memory.
const meminfo = "/proc/meminfo"

// checkDataDir looks whether images and disks have a place.
func checkDataDir(dir string) finding {
	const check, remedy = "data directory", "export WAGGLE_DATA_DIR=DIR   # one of yours, with some GiB free"
	if err := checkWritable(dir); err != nil {
		return missing(check, err.Error(), remedy)
	}
	if err := checkSpace(check, dir, minDataFree); err != nil {
		return missing(check, err.Error(), remedy)
	}
	free, err := freeBytes(dir)
	if err != nil {
		return missing(check, err.Error(), remedy)
	}
	detail := fmt.Sprintf("%s, %s free", dir, humanize.IBytes(free))
	if free < littleDataFree {
		return note(check, detail+": enough for little", remedy)
	}
	return good(check, detail)
}

// checkRunDir looks whether machines have a place for their sockets, which only
// the owner can reach and whose paths the kernel takes.
func checkRunDir(dir string) finding {
	const check, remedy = "run directory", "export WAGGLE_RUN_DIR=DIR   # a short path, of yours alone (mode 0700)"
	id := environment.NewID()
	if err := supervisor.CheckRunDir(dir, id); err != nil {
		return missing(check, err.Error(), remedy)
	}
	err := checkPrivate(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = checkWritable(dir)
	}
	if err != nil {
		return missing(check, err.Error(), remedy)
	}
	if err := checkSpace(check, dir, minRunFree); err != nil {
		return missing(check, err.Error(), remedy)
	}
	return good(check, fmt.Sprintf("%s: its longest socket path has %d of %d bytes",
		dir, len(supervisor.ControlPath(dir, id)), socket.MaxPath))
}

// checkWritable says whether a directory can be written, or made when it is not
// there.
func checkWritable(dir string) error {
	at := existing(dir)
	info, err := os.Stat(at)
	if err == nil && !info.IsDir() {
		err = unix.ENOTDIR
	}
	if err == nil {
		err = unix.Access(at, unix.W_OK|unix.X_OK)
	}
	switch {
	case err == nil:
		return nil
	case at == dir:
		return fmt.Errorf("%s cannot be written: %w", dir, err)
	}
	return fmt.Errorf("%s cannot be made: %s cannot be written: %w", dir, at, err)
}

// existing returns dir, or its nearest parent that is there.
func existing(dir string) string {
	for dir != filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(existing(dir), &st); err != nil {
		return 0, fmt.Errorf("ask for free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// checkCertificates looks at what guests are told to trust. path is
// WAGGLE_GUEST_CA.
func checkCertificates(path string) finding {
	const check = "certificates"
	bundle, source, err := egress.HostCABundle(path)
	switch {
	case err == nil:
		return good(check, fmt.Sprintf("%d of %s", bytes.Count(bundle, []byte("-----BEGIN CERTIFICATE-----")), source))
	case source == "":
		return note(check, "guests trust only what their image does: "+err.Error(), remedy.Apt("ca-certificates"))
	}
	return missing(check, err.Error(), caRemedy)
}
