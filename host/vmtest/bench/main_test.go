// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/host/vmtest"
)

// TestMain describes the machine in front of the results, as configuration lines
// of the benchmark format. Names of the host and of directories stay out: the
// description is published.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.bench"); f != nil && f.Value.String() != "" {
		describe()
	}
	os.Exit(vmtest.Main(m))
}

func describe() {
	accel := "kvm"
	if err := qemu.ProbeKVM(); err != nil {
		accel = "tcg"
	}
	for _, line := range []struct{ key, value string }{
		{"load", firstFields("/proc/loadavg", 3)},
		{"cores", fmt.Sprint(runtime.NumCPU())},
		{"memory", fmt.Sprintf("%d MiB", hostMemory()>>20)},
		{"accelerator", accel},
		{"kernel", hostKernel()},
		{"guest-kernel", guestKernel()},
		{"qemu", qemuVersion()},
		{"go", strings.TrimPrefix(runtime.Version(), "go")},
	} {
		fmt.Printf("%s: %s\n", line.key, line.value)
	}
}

const unknown = "unknown"

func firstFields(path string, n int) string {
	data, err := os.ReadFile(path)
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < n {
		return unknown
	}
	return strings.Join(fields[:n], " ")
}

func hostMemory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}

func hostKernel() string {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return unknown
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// guestKernel is the name of the prepared kernel without the hash behind it.
func guestKernel() string {
	dir, err := filepath.EvalSymlinks(filepath.Join(os.Getenv("WAGGLE_TEST_DATA"), "kernel", "current"))
	if err != nil {
		return unknown
	}
	name := filepath.Base(dir)
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		name = name[:i]
	}
	return name
}

func qemuVersion() string {
	binary, err := qemu.FindBinary("")
	if err != nil {
		return unknown
	}
	out, err := exec.Command(binary, "--version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	_, version, ok := strings.Cut(line, "version ")
	if err != nil || !ok {
		return unknown
	}
	return version
}
