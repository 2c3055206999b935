// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/stacklok/waggle/host/krun/bootdisk"
	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vmm"
)

// Start starts one machine. See vm.Backend. It returns when libkrun is configured
// and about to enter; so what libkrun refuses is Start's error.
func (b *Backend) Start(ctx context.Context, s vm.Spec) (vm.Machine, error) {
	m, err := b.start(ctx, s)
	if s.NIC != nil && s.NIC.Conn != nil {
		_ = s.NIC.Conn.Close() // the VMM has its own copy by now
	}
	if err != nil {
		if s.Guest != nil {
			_ = s.Guest.Close()
		}
		return nil, err
	}
	return m, nil
}

func (b *Backend) start(ctx context.Context, s vm.Spec) (*machine, error) {
	log := b.log.With(slog.String("env", s.ID))
	inside, err := b.describe(s)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("start waggle-krun: %w", context.Cause(ctx))
	}
	dir, err := makeDirectory(s.Dir, inside.User)
	if err != nil {
		return nil, err
	}
	inside.Dir = dir.path
	child, err := b.launcher(b, inside, s.NIC)
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	m := &machine{child: child, dir: dir, log: log, reported: make(chan struct{}), done: make(chan struct{})}
	go m.supervise(s)
	report, err := m.awaitReport(ctx)
	if err != nil {
		m.proc.Kill()
		<-m.done
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start waggle-krun: %w", context.Cause(ctx))
		}
		if m.proc.State().Success() {
			return nil, b.wordless()
		}
		if !m.proc.Killed() {
			return nil, m.failure() // its own words say more than a closed pipe
		}
		return nil, fmt.Errorf("start waggle-krun: %w", err)
	}
	attrs := []any{slog.Int("pid", m.PID()), slog.String("confined", string(report.Confine))}
	if report.Confine == spec.Landlock {
		log.Warn("the VMM is confined by Landlock alone", append(attrs, slog.String("why", report.Reason))...)
	} else {
		log.Debug("libkrun runs", attrs...)
	}
	return m, nil
}

// describe says what waggle-krun is to run. The machine's directory is not made yet.
func (b *Backend) describe(s vm.Spec) (spec.Machine, error) {
	if err := checkSpec(s); err != nil {
		return spec.Machine{}, err
	}
	boot, err := bootdisk.Cached(b.cfg.CacheDir, bootdisk.Content{Guestd: b.cfg.Guestd, GuestdInfo: b.cfg.GuestdInfo})
	if err != nil {
		return spec.Machine{}, err
	}
	m := spec.Machine{
		CPUs: s.CPUs, MemoryMiB: s.MemoryMiB, Dir: filepath.Join(s.Dir, "krun"),
		Runner: b.cfg.Runner, Library: b.libs.Krun.Path, Firmware: b.libs.Firmware.Path, KVM: b.kvm,
		Disks:   []spec.Disk{{Name: "boot", Path: boot, ReadOnly: true}},
		Confine: confinement,
	}
	if m.User, err = b.user(); err != nil {
		return spec.Machine{}, err
	}
	images, scratches := 0, 0
	for _, d := range s.Disks {
		name := numbered("image", &images)
		if !d.ReadOnly {
			name = numbered("scratch", &scratches)
			if err := giveDisk(d.Path, m.User); err != nil {
				return spec.Machine{}, fmt.Errorf("disk %s: %w", name, err)
			}
		}
		m.Disks = append(m.Disks, spec.Disk{Name: name, Path: d.Path, ReadOnly: d.ReadOnly})
	}
	if s.NIC != nil {
		m.MAC = s.NIC.MAC.String()
	}
	if err := m.Check(); err != nil {
		return spec.Machine{}, err
	}
	return m, nil
}

// numbered gives image, image2, image3.
func numbered(name string, count *int) string {
	*count++
	if *count == 1 {
		return name
	}
	return fmt.Sprint(name, *count)
}

// user is whom waggle-krun becomes; nil for the caller itself.
func (b *Backend) user() (*spec.User, error) {
	cred, err := vmm.Credential("waggle-krun", b.cfg.User, b.kvm, b.log)
	if err != nil || cred == nil {
		return nil, err
	}
	return &spec.User{UID: cred.Uid, GID: cred.Gid, Groups: cred.Groups}, nil
}

// giveDisk lets user write to a disk: libkrun opens it by its name.
func giveDisk(path string, user *spec.User) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file: a writable disk has to be one", path)
	case user == nil:
		return nil
	}
	return f.Chown(int(user.UID), int(user.GID))
}

func checkSpec(s vm.Spec) error {
	switch {
	case s.Guest == nil || s.Ready == nil || s.Console == nil:
		return errors.New("machine without Guest, Ready or Console")
	case s.NIC != nil && (s.NIC.Conn == nil || len(s.NIC.MAC) != 6):
		return errors.New("machine with a NIC that has no connection or no 6-byte address")
	case !filepath.IsAbs(s.Dir):
		return fmt.Errorf("machine's directory %q is not absolute", s.Dir)
	case s.CPUs < 1 || s.CPUs > spec.MaxCPUs:
		return fmt.Errorf("machine with %d CPUs: libkrun's kernel runs 1 to %d", s.CPUs, spec.MaxCPUs)
	case s.MemoryMiB < 1:
		return fmt.Errorf("machine with %d MiB of memory", s.MemoryMiB)
	}
	for _, disk := range s.Disks {
		if !filepath.IsAbs(disk.Path) {
			return fmt.Errorf("disk path %q is not absolute", disk.Path)
		}
		if info, err := os.Stat(disk.Path); err != nil {
			return fmt.Errorf("open disk: %w", err)
		} else if info.IsDir() {
			return fmt.Errorf("open disk: %s is a directory", disk.Path)
		}
	}
	return nil
}
