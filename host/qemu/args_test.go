// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestArgs(t *testing.T) {
	t.Parallel()
	l := layout{
		arch: archs["amd64"], accel: AccelTCG, cpus: 1, memoryMiB: 512,
		kernelFD: 3, initrdFD: 4, disks: []diskFD{{fd: 5, readOnly: true}, {fd: 6}},
		nicFD: 7, mac: net.HardwareAddr{2, 0, 0, 0, 0, 1}, vsockFD: 8, consoleFD: 9, qmpFD: 10,
	}
	want := []string{
		"-nodefaults", "-no-user-config", "-display none", "-no-reboot",
		"-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-accel tcg,thread=multi,tb-size=256", "-cpu max,-la57,-erms,-fsrm", "-smp 1", "-m 512M",
		"-object memory-backend-memfd,id=mem,size=512M,share=on,seal=on",
		"-M q35,smbus=off,sata=off,usb=off,vmport=off,i8042=off,memory-backend=mem,dump-guest-core=off",
		"-kernel /proc/self/fd/3", "-initrd /proc/self/fd/4",
		"-append console=ttyS0 8250.nr_uarts=1 quiet panic=-1 cryptomgr.notests " +
			"initcall_blacklist=init_kprobe_trace,load_system_certificate_list,crypto_kdf108_init " +
			"random.trust_cpu=on lsm= audit=0 mitigations=off rodata=off noreplace-smp no_timer_check norandmaps init_on_alloc=0",
		"-chardev socket,id=console,fd=9", "-serial chardev:console",
		"-chardev socket,id=qmp,fd=10", "-mon chardev=qmp,mode=control",
		"-add-fd fd=5,set=1",
		"-blockdev driver=raw,node-name=disk0,file.driver=file,file.filename=/dev/fdset/1," +
			"read-only=on,file.read-only=on,file.locking=off",
		"-device virtio-blk-pci,drive=disk0,werror=enospc,rerror=report",
		"-add-fd fd=6,set=2",
		"-blockdev driver=raw,node-name=disk1,file.driver=file,file.filename=/dev/fdset/2," +
			"cache.no-flush=on,discard=unmap,file.discard=unmap",
		"-device virtio-blk-pci,drive=disk1,werror=enospc,rerror=report",
		"-netdev stream,id=net,addr.type=fd,addr.str=7",
		"-device virtio-net-pci,netdev=net,mac=02:00:00:00:00:01,romfile=",
		"-object rng-builtin,id=rng", "-device virtio-rng-pci,rng=rng",
		"-chardev socket,id=vsock,fd=8", "-device vhost-user-vsock-pci,chardev=vsock",
	}
	require.Equal(t, want, options(l.args()))
}

// options joins each option with its value, to be read like a command line.
func options(args []string) []string {
	var out []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			out = append(out, arg)
			continue
		}
		out[len(out)-1] += " " + arg
	}
	return out
}

func TestCmdline(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		arch        string
		accel       Accel
		cpus        int
		want, never []string
	}{
		{"emulated", "amd64", AccelTCG, 1, []string{"mitigations=off", "rodata=off"}, []string{"tsc=reliable"}},
		{"emulated, several CPUs", "amd64", AccelTCG, 2, []string{"tsc=reliable"}, nil},
		{"KVM keeps the kernel's own protections", "amd64", AccelKVM, 2, []string{"panic=-1"},
			[]string{"mitigations=off", "rodata=off", "tsc=reliable"}},
		{"arm64", "arm64", AccelTCG, 2, []string{"console=ttyAMA0"}, []string{"tsc=reliable", "noreplace-smp"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			words := strings.Fields(layout{arch: archs[tt.arch], accel: tt.accel, cpus: tt.cpus}.cmdline())
			for _, word := range tt.want {
				require.Contains(t, words, word)
			}
			for _, word := range tt.never {
				require.NotContains(t, words, word)
			}
		})
	}
}

func TestArchFor(t *testing.T) {
	t.Parallel()
	_, err := archFor("riscv64")
	require.ErrorContains(t, err, "riscv64")
}
