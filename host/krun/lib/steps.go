// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin

package lib

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
)

// Ports of the guest agent's contract, as in host/vm.
const (
	guestPort = 1024
	readyPort = 1025
)

// Arguments from libkrun.h.
const (
	logStderr    = 2
	logWarn      = 2
	logNoColour  = 2
	logNoEnv     = 1 // RUST_LOG is not ours to obey
	diskRaw      = 0
	noTSI        = 0 // no sockets of the guest on the host's network
	noFeatures   = 0 // no offloads: frames come whole and with their checksums
	noFlags      = 0
	bootDevice   = "/dev/vda"
	bootType     = "ext4"
	bootOptions  = "ro"
	guestPID1    = "KRUN_INIT_PID1=1"
	sayWhatToDo  = "run `waggle doctor`"
	maybeTooOld  = "libkrun 1.17.3 or later is needed (docs/libkrun.md)"
	maybeMemory  = "give the machine between 1 and 16 CPUs, and memory that the host has"
	maybeNoRight = "see what libkrun says on its standard error, and run `waggle doctor`"
)

// step is one call: what it is for and what to do when it fails.
type step struct {
	symbol, purpose, remedy string
	call                    func() int32
}

// run makes the call. Its result is returned for those who need it.
func (s step) run() (int32, error) {
	code := s.call()
	if code >= 0 {
		return code, nil
	}
	errno := syscall.Errno(-code)
	name := unix.ErrnoName(errno)
	if name == "" {
		name = fmt.Sprintf("error %d", -code)
	}
	return code, fmt.Errorf("%s: %s (%w): %s; %s", s.symbol, name, errno, s.purpose, s.remedy)
}

// Configure makes all calls but the last and returns the context for Enter. It is
// to be called once in a process.
func (l *Library) Configure(m spec.Machine) (ctx uint32, err error) {
	plainCrashes()
	return l.calls.configure(m)
}

func (c *calls) configure(m spec.Machine) (uint32, error) {
	if err := checkStrings(m); err != nil {
		return 0, err
	}
	first := []step{
		{"krun_init_log", "the log to standard error", sayWhatToDo,
			func() int32 { return c.initLog(logStderr, logWarn, logNoColour, logNoEnv) }},
		{"krun_create_ctx", "a new machine", sayWhatToDo, c.createCtx},
	}
	var code int32
	for _, s := range first {
		var err error
		if code, err = s.run(); err != nil {
			return 0, err
		}
	}
	ctx := uint32(code)
	for _, s := range c.steps(ctx, m) {
		if _, err := s.run(); err != nil {
			return 0, err
		}
	}
	return ctx, nil
}

// steps are in the order that libkrun wants: a vsock device before its ports,
// disks before the remount.
func (c *calls) steps(ctx uint32, m spec.Machine) []step {
	guest, ready := filepath.Join(m.Dir, spec.GuestSocket), filepath.Join(m.Dir, spec.ReadySocket)
	console := filepath.Join(m.Dir, spec.Console)
	steps := []step{
		{"krun_set_vm_config", fmt.Sprintf("%d CPUs and %d MiB of memory", m.CPUs, m.MemoryMiB), maybeMemory,
			func() int32 { return c.setVMConfig(ctx, uint8(m.CPUs), uint32(m.MemoryMiB)) }},
		{"krun_disable_implicit_vsock", "a vsock device without TSI", maybeTooOld,
			func() int32 { return c.disableImplicitVsock(ctx) }},
		{"krun_add_vsock", "a vsock device without TSI", maybeTooOld,
			func() int32 { return c.addVsock(ctx, noTSI) }},
		{"krun_add_vsock_port2", "the streams to guestd by way of " + guest,
			"remove that socket if an ended machine left it, and see that the directory can be searched",
			func() int32 { return c.addVsockPort2(ctx, guestPort, guest, true) }},
		{"krun_add_vsock_port2", "the streams from guestd by way of " + ready, maybeTooOld,
			func() int32 { return c.addVsockPort2(ctx, readyPort, ready, false) }},
	}
	for _, d := range m.Disks {
		steps = append(steps, step{"krun_add_disk2", "the disk " + d.Name + " at " + d.Path,
			"see that it is a raw image that can be read",
			func() int32 { return c.addDisk2(ctx, d.Name, d.Path, diskRaw, d.ReadOnly) }})
	}
	steps = append(steps, step{"krun_set_root_disk_remount", "the boot disk as the guest's root",
		"see that " + m.Temp + " can be written: libkrun makes a directory there",
		func() int32 { return c.setRootDiskRemount(ctx, bootDevice, bootType, bootOptions) }})
	if mac, err := net.ParseMAC(m.MAC); err == nil {
		steps = append(steps, step{"krun_add_net_unixstream", "the network card " + m.MAC, maybeTooOld,
			func() int32 {
				return c.addNetUnixstream(ctx, nil, spec.NICFD, &mac[0], noFeatures, noFlags)
			}})
	}
	return append(steps,
		step{"krun_set_exec", "guestd as the guest's first process", sayWhatToDo,
			func() int32 { return c.exec(ctx) }},
		step{"krun_set_console_output", "the console at " + console, maybeTooOld,
			func() int32 { return c.setConsoleOutput(ctx, console) }})
}

// exec passes both lists, though the first is empty: without an environment of
// ours libkrun would give the guest this process's.
func (c *calls) exec(ctx uint32) int32 {
	env := append([]byte(guestPID1), 0)
	argv, envp := []*byte{nil}, []*byte{&env[0], nil}
	code := c.setExec(ctx, spec.Exec, argv, envp)
	runtime.KeepAlive(env)
	return code
}

// Enter runs the machine on the calling thread. It returns only when that cannot
// begin: libkrun ends the process with the machine.
func (l *Library) Enter(ctx uint32) error {
	return l.calls.enter(ctx)
}

func (c *calls) enter(ctx uint32) error {
	s := step{"krun_start_enter", "the machine", maybeNoRight, func() int32 { return c.startEnter(ctx) }}
	code, err := s.run()
	switch {
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w; libkrun found no libkrunfw that it can use", err)
	case err != nil:
		return err
	}
	return fmt.Errorf("krun_start_enter returned %d, where it ends the process: %s", code, maybeTooOld)
}

// checkStrings refuses what C would cut off.
func checkStrings(m spec.Machine) error {
	texts := []string{m.Dir}
	for _, d := range m.Disks {
		texts = append(texts, d.Name, d.Path)
	}
	for _, text := range texts {
		if strings.ContainsRune(text, 0) {
			return fmt.Errorf("path %q has a zero byte", text)
		}
	}
	return nil
}
