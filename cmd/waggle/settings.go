// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/image"
)

const (
	// maxCPUs is what the machine models of the backends have in common.
	maxCPUs = 255
	// cpusPerHostCPU is how many CPUs of a machine one of the host's can play: with
	// many more the guest waits for itself, and its boot never ends.
	cpusPerHostCPU = 4
	// maxMemoryMB is more than any host has, and no overflow of anything.
	maxMemoryMB = 16 << 20
	// maxEnvironments is more than one host has processes for.
	maxEnvironments = 10_000
	// longest bounds the timeouts: no typing error is meant to be a year.
	longest = 30 * 24 * time.Hour
)

// within checks one setting. The error has what a person needs who has put it in
// a file of the service's, or on the command line.
func within[T cmp.Ordered](setting, flag string, value, low, high T) error {
	if value >= low && value <= high {
		return nil
	}
	return fmt.Errorf("%s (--%s) is %v: give %v to %v", setting, flag, value, low, high)
}

// checkCPUs bounds the CPUs of a machine by those of the host.
func checkCPUs(cpus uint32, host int) error {
	most := uint32(min(maxCPUs, cpusPerHostCPU*host))
	err := within("WAGGLE_DEFAULT_CPUS", "cpus", cpus, 1, most)
	if err != nil && most < maxCPUs {
		err = fmt.Errorf("%w, %d for each of the %d CPUs of this host", err, cpusPerHostCPU, host)
	}
	return err
}

// checkMemoryMB bounds the memory of a machine by the host's, as far as meminfo, a
// file such as /proc/meminfo, tells.
func checkMemoryMB(memory uint32, meminfo string) error {
	host, err := memInfoMiB(meminfo, "MemTotal:")
	if err != nil || host >= maxMemoryMB || host <= environment.MinMemoryMiB {
		return within("WAGGLE_DEFAULT_MEMORY_MB", "memory-mb", memory, environment.MinMemoryMiB, maxMemoryMB)
	}
	err = within("WAGGLE_DEFAULT_MEMORY_MB", "memory-mb", memory, environment.MinMemoryMiB, uint32(host))
	if err != nil {
		err = fmt.Errorf("%w, which is all the memory of this host", err)
	}
	return err
}

// imageSetting checks the name of an image; whether there is one shows when it is
// used.
func imageSetting(setting, flag, ref string) error {
	if ref == "" {
		return nil
	}
	if err := image.CheckReference(ref); err != nil {
		return fmt.Errorf("%s (--%s): %w", setting, flag, err)
	}
	return nil
}

// Validate implements kong's interface: it is called before the command runs, when
// nothing has been made or locked yet.
func (f *vmFlags) Validate() error {
	return errors.Join(
		checkCPUs(f.CPUs, runtime.NumCPU()),
		checkMemoryMB(f.MemoryMB, meminfo),
		within("WAGGLE_DEFAULT_DISK_MB", "disk-mb", f.DiskMB, disk.MinScratchMiB, disk.MaxScratchMiB),
		within("WAGGLE_KEEP_RESULTS", "keep-results", f.KeepResults, 0, longest),
		within("WAGGLE_KEEP_RESULTS_COUNT", "keep-results-count", f.KeepResultsCount, 0, 10_000),
		imageSetting("WAGGLE_IMAGE_PYTHON", "image-python", f.ImagePython),
		imageSetting("WAGGLE_IMAGE_NODE", "image-node", f.ImageNode),
		imageSetting("WAGGLE_IMAGE_SHELL", "image-shell", f.ImageShell),
		f.fetchFlags.check(),
		f.diskLimitFlags.check(),
		f.checkRuntimes(os.Environ()),
	)
}

// maxSize is the most that a caller may ask for.
func (c *serverFlags) maxSize(hostCPUs int, meminfo string) (cpus, memoryMiB uint32) {
	cpus, memoryMiB = c.MaxCPUs, c.MaxMemoryMB
	if cpus == 0 {
		cpus = uint32(min(hostCPUs, maxCPUs))
	}
	if host, err := memInfoMiB(meminfo, "MemTotal:"); memoryMiB == 0 && err == nil { // else the default is the most
		memoryMiB = uint32(min(host/2, maxMemoryMB))
	}
	return cpus, memoryMiB
}

// Validate implements kong's interface.
func (c *serveCmd) Validate() error {
	return errors.Join(c.serverFlags.Validate(), c.checkEdge())
}

// Validate implements kong's interface.
func (c *serverFlags) Validate() error {
	err := errors.Join(
		c.vmFlags.Validate(),
		within("WAGGLE_MAX_ENVIRONMENTS", "max-environments", c.MaxEnvironments, 1, maxEnvironments),
		within("WAGGLE_MAX_ENVIRONMENTS_PER_CALLER", "max-environments-per-caller", c.MaxPerCaller, 0, maxEnvironments),
		within("WAGGLE_MAX_CPUS", "max-cpus", c.MaxCPUs, 0, uint32(min(maxCPUs, cpusPerHostCPU*runtime.NumCPU()))),
		within("WAGGLE_MAX_MEMORY_MB", "max-memory-mb", c.MaxMemoryMB, 0, maxMemoryMB),
		within("WAGGLE_DEFAULT_TIMEOUT_MIN", "default-timeout-min", c.DefaultTimeoutMin, 1, int(environment.MaxIdle.Minutes())),
		within("WAGGLE_DEFAULT_EXEC_TIMEOUT", "default-exec-timeout", c.DefaultExecTimeout, time.Second, longest),
		within("WAGGLE_MAX_EXEC_TIMEOUT", "max-exec-timeout", c.MaxExecTimeout, time.Second, longest),
		within("WAGGLE_ORPHAN_TIMEOUT", "orphan-timeout", c.OrphanTimeout, time.Second, longest),
	)
	if c.DefaultExecTimeout > c.MaxExecTimeout {
		err = errors.Join(err, fmt.Errorf("WAGGLE_MAX_EXEC_TIMEOUT (--max-exec-timeout) is %s, less than WAGGLE_DEFAULT_EXEC_TIMEOUT (--default-exec-timeout), %s: "+
			"raise the one or lower the other", c.MaxExecTimeout, c.DefaultExecTimeout))
	}
	return err
}
