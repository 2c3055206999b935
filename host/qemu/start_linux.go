// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/stacklok/waggle/host/qemu/initramfs"
	"github.com/stacklok/waggle/host/vhostvsock"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vmm"
)

// guestCID is every guest's: the device is private to one machine, so context
// ids need not differ.
const guestCID = 3

// Start starts one machine. See vm.Backend.
func (b *Backend) Start(ctx context.Context, spec vm.Spec) (vm.Machine, error) {
	res := &resources{}
	proc, device, err := b.launch(ctx, spec, res)
	res.closeInherited()
	if spec.NIC != nil && spec.NIC.Conn != nil {
		_ = spec.NIC.Conn.Close() // QEMU has its own copy by now
	}
	if err != nil {
		res.close()
		if spec.Guest != nil {
			_ = spec.Guest.Close()
		}
		return nil, err
	}
	control := newQMP(res.qmp)
	control.paused = spec.Paused
	m := newMachine(proc, control, b.log.With(slog.String("env", spec.ID), slog.Int("pid", proc.PID())))
	up := make(chan error, 1)
	go m.supervise(ctx, res, device, spec.Console, up)
	if err := <-up; err != nil {
		m.kill()
		<-m.done
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start qemu: %w", context.Cause(ctx))
		}
		if !m.proc.Killed() {
			// QEMU's own words say more than that its control channel is gone.
			return nil, m.failure
		}
		return nil, fmt.Errorf("start qemu: %w", err)
	}
	m.log.Debug("qemu runs", slog.String("accel", string(b.accel)))
	return m, nil
}

// launch opens everything into res and starts QEMU. After an error the caller
// still closes res and what spec brought along.
func (b *Backend) launch(
	ctx context.Context, spec vm.Spec, res *resources,
) (*vmm.Process, *vhostvsock.Device, error) {
	if err := checkSpec(spec); err != nil {
		return nil, nil, err
	}
	initrd, err := initramfs.Cached(b.cfg.CacheDir, b.content())
	if err != nil {
		return nil, nil, err
	}
	cred, err := b.credential()
	if err != nil {
		return nil, nil, err
	}
	l := layout{arch: b.arch, accel: b.accel, cpus: spec.CPUs, memoryMiB: spec.MemoryMiB}
	if err := res.open(&l, spec, b.kernel, initrd, cred != nil); err != nil {
		return nil, nil, err
	}
	device, err := vhostvsock.New(vhostvsock.Config{
		GuestCID:  guestCID,
		Listeners: map[uint32]*net.UnixListener{vm.GuestPort: spec.Guest},
		Accept:    map[uint32]func(net.Conn){vm.ReadyPort: spec.Ready},
		Logger:    b.log.With(slog.String("env", spec.ID)),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("create vsock device: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("start qemu: %w", context.Cause(ctx))
	}
	proc, err := spawn(b.binary, l.args(), res.inherit, cred)
	return proc, device, err
}

func checkSpec(spec vm.Spec) error {
	switch {
	case spec.CPUs < 1:
		return fmt.Errorf("machine with %d CPUs", spec.CPUs)
	case spec.MemoryMiB < 1:
		return fmt.Errorf("machine with %d MiB of memory", spec.MemoryMiB)
	case spec.Guest == nil || spec.Ready == nil || spec.Console == nil:
		return errors.New("machine without Guest, Ready or Console")
	case spec.NIC != nil && (spec.NIC.Conn == nil || len(spec.NIC.MAC) != 6):
		return errors.New("machine with a NIC that has no connection or no 6-byte address")
	}
	for _, disk := range spec.Disks {
		if !filepath.IsAbs(disk.Path) {
			return fmt.Errorf("disk path %q is not absolute", disk.Path)
		}
	}
	return nil
}
