// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin

package lib

import (
	"fmt"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun/spec"
)

// recorder is a libkrun that notes what it is told, and answers fail with code.
type recorder struct {
	said []string
	fail string
	code int32
}

func (r *recorder) say(symbol, format string, args ...any) int32 {
	r.said = append(r.said, symbol+fmt.Sprintf(format, args...))
	if symbol == r.fail {
		return r.code
	}
	if symbol == "krun_create_ctx" {
		return 7
	}
	return 0
}

func (r *recorder) calls() *calls {
	return &calls{
		hasFeature: func(f uint64) int32 { return r.say("krun_has_feature", "(%d)", f) },
		initLog: func(fd int32, level, style, options uint32) int32 {
			return r.say("krun_init_log", "(%d,%d,%d,%d)", fd, level, style, options)
		},
		createCtx: func() int32 { return r.say("krun_create_ctx", "()") },
		setVMConfig: func(ctx uint32, cpus uint8, memory uint32) int32 {
			return r.say("krun_set_vm_config", "(%d,%d,%d)", ctx, cpus, memory)
		},
		disableImplicitVsock: func(ctx uint32) int32 { return r.say("krun_disable_implicit_vsock", "(%d)", ctx) },
		addVsock:             func(ctx, tsi uint32) int32 { return r.say("krun_add_vsock", "(%d,%d)", ctx, tsi) },
		addVsockPort2: func(ctx, port uint32, path string, listen bool) int32 {
			return r.say("krun_add_vsock_port2", "(%d,%d,%s,%t)", ctx, port, path, listen)
		},
		addDisk2: func(ctx uint32, id, path string, format uint32, ro bool) int32 {
			return r.say("krun_add_disk2", "(%d,%s,%s,%d,%t)", ctx, id, path, format, ro)
		},
		setRootDiskRemount: func(ctx uint32, device, fstype, options string) int32 {
			return r.say("krun_set_root_disk_remount", "(%d,%s,%s,%s)", ctx, device, fstype, options)
		},
		addNetUnixstream: func(ctx uint32, path *byte, fd int32, mac *byte, features, flags uint32) int32 {
			return r.say("krun_add_net_unixstream", "(%d,%v,%d,%x,%d,%d)", ctx, path == nil, fd, unsafe.Slice(mac, 6), features, flags)
		},
		setExec: func(ctx uint32, path string, argv, envp []*byte) int32 {
			return r.say("krun_set_exec", "(%d,%s,%q,%q)", ctx, path, list(argv), list(envp))
		},
		setConsoleOutput: func(ctx uint32, path string) int32 { return r.say("krun_set_console_output", "(%d,%s)", ctx, path) },
		startEnter:       func(ctx uint32) int32 { return r.say("krun_start_enter", "(%d)", ctx) },
	}
}

// list reads an argument list up to its end.
func list(p []*byte) []string {
	texts := []string{}
	for _, s := range p {
		if s == nil {
			return texts
		}
		n := 0
		for unsafe.Slice(s, n+1)[n] != 0 {
			n++
		}
		texts = append(texts, string(unsafe.Slice(s, n)))
	}
	return append(texts, "no end")
}

func machine() spec.Machine {
	return spec.Machine{
		CPUs: 2, MemoryMiB: 512, Dir: "/vsock", Temp: "/tmp", MAC: "52:54:00:01:02:03",
		Disks: []spec.Disk{
			{Name: "boot", Path: "/disks/boot", ReadOnly: true},
			{Name: "image", Path: "/disks/image", ReadOnly: true},
			{Name: "scratch", Path: "/disks/scratch"},
		},
	}
}

func TestConfigure(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	ctx, err := r.calls().configure(machine())
	require.NoError(t, err)
	require.Equal(t, uint32(7), ctx)
	require.Equal(t, []string{
		"krun_init_log(2,2,2,1)",
		"krun_create_ctx()",
		"krun_set_vm_config(7,2,512)",
		"krun_disable_implicit_vsock(7)",
		"krun_add_vsock(7,0)",
		"krun_add_vsock_port2(7,1024,/vsock/guestd.sock,true)",
		"krun_add_vsock_port2(7,1025,/vsock/ready.sock,false)",
		"krun_add_disk2(7,boot,/disks/boot,0,true)",
		"krun_add_disk2(7,image,/disks/image,0,true)",
		"krun_add_disk2(7,scratch,/disks/scratch,0,false)",
		"krun_set_root_disk_remount(7,/dev/vda,ext4,ro)",
		"krun_add_net_unixstream(7,true,6,525400010203,0,0)",
		`krun_set_exec(7,/lib/waggle/guestd,[],["KRUN_INIT_PID1=1"])`,
		"krun_set_console_output(7,/vsock/console)",
	}, r.said)

	none := machine()
	none.MAC = ""
	r = &recorder{}
	_, err = r.calls().configure(none)
	require.NoError(t, err)
	require.Len(t, r.said, 13, "without a network card there is no call for one")

	none.Dir = "/vsock\x00/etc"
	_, err = r.calls().configure(none)
	require.ErrorContains(t, err, "zero byte")
}

// TestRefusals: each call's error names it, the errno, what it was for and what to
// do, and nothing is called after it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	ok := &recorder{}
	_, err := ok.calls().configure(machine())
	require.NoError(t, err)
	for symbol := range ok.calls().table() {
		if symbol == "krun_has_feature" || symbol == "krun_start_enter" {
			continue
		}
		for errno, name := range map[syscall.Errno]string{syscall.EINVAL: "EINVAL", syscall.ENOENT: "ENOENT", syscall.EPERM: "EPERM"} {
			t.Run(symbol+" "+name, func(t *testing.T) {
				t.Parallel()
				r := &recorder{fail: symbol, code: -int32(errno)}
				_, err := r.calls().configure(machine())
				require.ErrorIs(t, err, errno)
				require.Regexp(t, `^`+symbol+`: `+name+` \(`+errno.Error()+`\): .+; .+`, err.Error())
				require.Contains(t, r.said[len(r.said)-1], symbol)
			})
		}
	}
}

func TestEnter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code int32
		want string
	}{
		{-int32(syscall.EINVAL), "krun_start_enter: EINVAL (invalid argument): the machine; "},
		{-int32(syscall.ENOENT), "libkrun found no libkrunfw"},
		{-4711, "krun_start_enter: error 4711"},
		{0, "returned 0"},
	} {
		r := &recorder{fail: "krun_start_enter", code: tt.code}
		require.ErrorContains(t, r.calls().enter(7), tt.want)
		require.Equal(t, []string{"krun_start_enter(7)"}, r.said)
	}
}

func TestFeatures(t *testing.T) {
	t.Parallel()
	features := func(set map[uint64]int32) error {
		return (&calls{hasFeature: func(f uint64) int32 { return set[f] }}).features()
	}
	require.NoError(t, features(map[uint64]int32{0: 1, 1: 1}))
	require.NoError(t, features(map[uint64]int32{0: 1, 1: 1, 5: -int32(syscall.EINVAL)}))
	require.ErrorContains(t, features(map[uint64]int32{1: 1}), "NET=1")
	require.ErrorContains(t, features(map[uint64]int32{0: 1}), "BLK=1")
	require.ErrorContains(t, features(map[uint64]int32{0: 1, 1: 1, 5: 1}), "libkrun-efi")
	require.ErrorContains(t, features(map[uint64]int32{0: 1, 1: 1, 6: 1}), "-sev or -tdx")
}

func TestAbsent(t *testing.T) {
	t.Parallel()
	require.NoError(t, absent(nil))
	require.ErrorContains(t, absent([]string{"krun_add_disk2", "krun_has_feature"}), "1.17.3")
	require.ErrorContains(t, absent([]string{"krun_add_disk2"}), "BLK=1")
	require.ErrorContains(t, absent([]string{"krun_add_net_unixstream"}), "NET=1")
	require.ErrorContains(t, absent([]string{"krun_add_vsock"}), "no krun_add_vsock")
}

// TestTable: what host/krun looks for in the file is what is called here.
func TestTable(t *testing.T) {
	t.Parallel()
	var want []string
	want = append(want, spec.FeatureSymbol)
	want = append(append(append(want, spec.CoreSymbols...), spec.BlockSymbols...), spec.NetSymbols...)
	var have []string
	for symbol := range (&calls{}).table() {
		have = append(have, symbol)
	}
	require.ElementsMatch(t, want, have)
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	_, err := Open("/none/libkrun.so.1", "/none/libkrunfw.so.5")
	require.ErrorContains(t, err, "load libkrunfw: ")
	require.ErrorContains(t, err, "docs/libkrun.md")
}
