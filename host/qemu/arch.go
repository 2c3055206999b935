// SPDX-License-Identifier: Apache-2.0

package qemu

import "fmt"

// arch is all that differs between guest architectures on the command line.
type arch struct {
	binary, pkg string
	machine     string // -M, without the memory
	cpuTCG      string // -cpu under emulation; host under KVM
	cmdline     []string
	cmdlineTCG  []string // in addition under emulation
	cmdlineSMP  []string // in addition under emulation with several CPUs
}

// archs has the architectures by their Go names.
var archs = map[string]arch{
	"amd64": {
		binary: "qemu-system-x86_64",
		pkg:    "qemu-system-x86",
		// No device that the guest would probe in vain.
		machine: "q35,smbus=off,sata=off,usb=off,vmport=off,i8042=off",
		// 5-level page tables cost emulation time and give nothing. With erms or
		// fsrm, kernel and libraries copy and clear by `rep movsb`, which TCG does
		// byte by byte: without, a pipe carries four times as much.
		cpuTCG: "max,-la57,-erms,-fsrm",
		cmdline: []string{
			"console=ttyS0", "8250.nr_uarts=1", "quiet",
			// A panic or a reboot ends QEMU (-no-reboot) at once.
			"panic=-1",
			// Self-tests of ciphers take up to 290 ms without KVM.
			"cryptomgr.notests",
			// Initcalls that a guest without kprobes, signed modules and
			// kernel-side key derivation does not need: 150 ms together.
			"initcall_blacklist=init_kprobe_trace,load_system_certificate_list,crypto_kdf108_init",
			"random.trust_cpu=on", "lsm=", "audit=0",
		},
		cmdlineTCG: []string{
			// There is no speculation to mitigate, and patching code makes TCG
			// translate it again.
			"mitigations=off", "rodata=off", "noreplace-smp", "no_timer_check",
			// TCG keeps translated code by its address: where each process has its
			// libraries elsewhere, each translates them anew. That doubles the time
			// of a small command, and fills up to 1 GiB of the host's memory.
			"norandmaps",
			// Debian's kernel clears all memory that it hands out, also what it
			// fills at once: a plain vsock stream is a third slower for it.
			"init_on_alloc=0",
		},
		// The kernel does not trust the time-stamp counters of several emulated
		// CPUs, and reading a clock would take twice as long.
		cmdlineSMP: []string{"tsc=reliable"},
	},
	// Not tested: no such machine was at hand.
	"arm64": {
		binary:  "qemu-system-aarch64",
		pkg:     "qemu-system-arm",
		machine: "virt,gic-version=max",
		cpuTCG:  "max",
		cmdline: []string{
			"console=ttyAMA0", "quiet", "panic=-1", "cryptomgr.notests",
			"random.trust_cpu=on", "lsm=", "audit=0",
		},
		cmdlineTCG: []string{"mitigations=off", "rodata=off", "norandmaps"},
	},
}

func archFor(name string) (arch, error) {
	a, ok := archs[name]
	if !ok {
		return arch{}, fmt.Errorf("no QEMU backend for architecture %s: only amd64 and arm64 are supported", name)
	}
	return a, nil
}
