// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin

package lib

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ebitengine/purego"

	"github.com/stacklok/waggle/host/krun/spec"
)

// Library is libkrun, loaded.
type Library struct{ calls calls }

// calls are libkrun's. All return 0 or more, or a negative errno. A bool is C's
// _Bool. A string is copied by purego for the time of the call.
type calls struct {
	hasFeature           func(feature uint64) int32
	initLog              func(fd int32, level, style, options uint32) int32
	createCtx            func() int32
	setVMConfig          func(ctx uint32, cpus uint8, memoryMiB uint32) int32
	disableImplicitVsock func(ctx uint32) int32
	addVsock             func(ctx, tsi uint32) int32
	addVsockPort2        func(ctx, port uint32, path string, listen bool) int32
	addDisk2             func(ctx uint32, id, path string, format uint32, readOnly bool) int32
	setRootDiskRemount   func(ctx uint32, device, fstype, options string) int32
	addNetUnixstream     func(ctx uint32, path *byte, fd int32, mac *byte, features, flags uint32) int32
	setExec              func(ctx uint32, path string, argv, envp []*byte) int32
	setConsoleOutput     func(ctx uint32, path string) int32
	startEnter           func(ctx uint32) int32
}

// table has a pointer to each call by its symbol.
func (c *calls) table() map[string]any {
	return map[string]any{
		"krun_has_feature":            &c.hasFeature,
		"krun_init_log":               &c.initLog,
		"krun_create_ctx":             &c.createCtx,
		"krun_set_vm_config":          &c.setVMConfig,
		"krun_disable_implicit_vsock": &c.disableImplicitVsock,
		"krun_add_vsock":              &c.addVsock,
		"krun_add_vsock_port2":        &c.addVsockPort2,
		"krun_add_disk2":              &c.addDisk2,
		"krun_set_root_disk_remount":  &c.setRootDiskRemount,
		"krun_add_net_unixstream":     &c.addNetUnixstream,
		"krun_set_exec":               &c.setExec,
		"krun_set_console_output":     &c.setConsoleOutput,
		"krun_start_enter":            &c.startEnter,
	}
}

// Open loads the two libraries and checks that this libkrun can run machines. The
// firmware comes first: libkrun opens it by its bare name, and the dynamic loader
// then finds the one that is loaded.
func Open(library, firmware string) (*Library, error) {
	if _, err := purego.Dlopen(firmware, purego.RTLD_NOW|purego.RTLD_LOCAL); err != nil {
		return nil, fmt.Errorf("load libkrunfw: %w; install the libkrunfw that belongs to libkrun (docs/libkrun.md)", err)
	}
	handle, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load libkrun: %w; install it again (docs/libkrun.md)", err)
	}
	l := &Library{}
	var missing []string
	for symbol, fn := range l.calls.table() {
		address, err := purego.Dlsym(handle, symbol)
		if err != nil {
			missing = append(missing, symbol)
			continue
		}
		purego.RegisterFunc(fn, address)
	}
	if err := absent(missing); err != nil {
		return nil, fmt.Errorf("%s: %w", library, err)
	}
	if err := l.calls.features(); err != nil {
		return nil, fmt.Errorf("%s: %w", library, err)
	}
	return l, nil
}

// absent says what it means that these symbols are missing.
func absent(missing []string) error {
	slices.Sort(missing)
	has := func(s string) bool { return slices.Contains(missing, s) }
	switch {
	case len(missing) == 0:
		return nil
	case has(spec.FeatureSymbol):
		return errors.New("this libkrun is too old: 1.17.3 or later is needed (docs/libkrun.md)")
	case slices.ContainsFunc(spec.BlockSymbols, has):
		return errors.New("this libkrun has no block devices: build it with BLK=1 (docs/libkrun.md)")
	case slices.ContainsFunc(spec.NetSymbols, has):
		return errors.New("this libkrun has no network: build it with NET=1 (docs/libkrun.md)")
	}
	return fmt.Errorf("this libkrun has no %s: 1.17.3 or later is needed (docs/libkrun.md)", missing[0])
}

// Features of a build, from libkrun.h.
const (
	featureNet = 0
	featureBlk = 1
	featureEFI = 5
	featureTEE = 6
)

func (c *calls) features() error {
	for _, f := range []struct {
		number uint64
		want   bool
		name   string
		remedy string
	}{
		{featureNet, true, "network (KRUN_FEATURE_NET)", "build it with NET=1"},
		{featureBlk, true, "block devices (KRUN_FEATURE_BLK)", "build it with BLK=1"},
		{featureEFI, false, "EFI boot (KRUN_FEATURE_EFI)", "install the plain libkrun, not libkrun-efi"},
		{featureTEE, false, "confidential machines (KRUN_FEATURE_TEE)", "install the plain libkrun, not its -sev or -tdx build"},
	} {
		// A later libkrun that no longer knows a feature answers with EINVAL.
		if got := c.hasFeature(f.number) == 1; got != f.want {
			built := "is built for "
			if f.want {
				built = "is built without "
			}
			return fmt.Errorf("krun_has_feature: this libkrun %s%s: %s (docs/libkrun.md)", built, f.name, f.remedy)
		}
	}
	return nil
}
