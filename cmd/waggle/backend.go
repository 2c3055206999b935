// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/stacklok/waggle/host/krun"
	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/proto"
	"github.com/stacklok/waggle/version"
)

// backendSettings is what the supervise command makes a backend of. They travel
// in the machine's spec.
type backendSettings struct {
	// Backend and Accel are a choice's: the supervisor chooses nothing.
	Backend string     `json:"backend"`
	Accel   string     `json:"accel"`
	DataDir string     `json:"data_dir"`
	Guestd  string     `json:"guestd"`
	Info    guestdInfo `json:"guestd_info"`
	GuestCA string     `json:"guest_ca,omitempty"`

	QEMU   string `json:"qemu,omitempty"`
	Kernel string `json:"kernel,omitempty"`

	Runner string `json:"krun,omitempty"`
	LibDir string `json:"krun_lib_dir,omitempty"`
	KVM    string `json:"krun_kvm,omitempty"`
}

// guestdInfo tells the guest who it is; an image's own guestd takes over when it
// differs.
type guestdInfo struct {
	Version     string        `json:"version"`
	ProtocolMin uint32        `json:"protocol_min"`
	ProtocolMax uint32        `json:"protocol_max"`
	Digest      digest.Digest `json:"digest"`
	// Use is WAGGLE_GUESTD; empty is auto.
	Use string `json:"use,omitempty"`
}

// backend chooses what makes machines, and describes their parts. It makes nothing.
func (f *vmFlags) backend(ctx context.Context) (json.RawMessage, choice, error) {
	data, err := f.dataDir()
	if err != nil {
		return nil, choice{}, err
	}
	on, err := f.choose(ctx, data)
	if err != nil {
		return nil, choice{}, err
	}
	raw, err := f.describe(data, on)
	return raw, on, err
}

// describe has absolute paths.
func (f *vmFlags) describe(data string, on choice) (json.RawMessage, error) {
	s := backendSettings{Backend: on.backend, Accel: on.accel, DataDir: data}
	var err error
	if on.backend == backendKrun {
		s.Runner, s.LibDir, s.KVM = on.runner, on.libDir, f.KrunKVM
	} else {
		s.QEMU = f.QEMU
		if s.Kernel, err = filepath.Abs(f.kernel(data)); err != nil {
			return nil, fmt.Errorf("find the kernel: %w", err)
		}
	}
	if f.GuestCA != "" {
		if s.GuestCA, err = filepath.Abs(f.GuestCA); err != nil {
			return nil, fmt.Errorf("find the certificates: %w", err)
		}
	}
	if s.Guestd, err = findGuestd(f.GuestdDir, runtime.GOARCH); err != nil {
		return nil, errors.Join(append([]error{err}, s.others()...)...)
	}
	if s.Guestd, err = filepath.Abs(s.Guestd); err != nil {
		return nil, fmt.Errorf("find guestd: %w", err)
	}
	s.Info = guestdInfo{Version: version.String(), ProtocolMin: proto.GuestProtocolMin, ProtocolMax: proto.GuestProtocolMax}
	if f.Guestd != "auto" { // the boot medium of auto stays what it was
		s.Info.Use = f.Guestd
	}
	if s.Info.Digest, err = fileDigest(s.Guestd); err != nil {
		return nil, fmt.Errorf("read guestd: %w", err)
	}
	return json.Marshal(s)
}

// others are what is missing beside guestd, which is looked for first.
func (s backendSettings) others() []error {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil // the one that is known says enough
	}
	return slices.DeleteFunc(checkBackend(raw), func(err error) bool {
		return errors.Is(err, qemu.ErrNoGuestd) || errors.Is(err, krun.ErrNoGuestd)
	})
}

// kernel is where QEMU's kernel is to be.
func (f *vmFlags) kernel(data string) string {
	if f.Kernel != "" {
		return f.Kernel
	}
	return filepath.Join(data, "kernel", "current")
}

// open makes the backend that was chosen, which checks that all it needs is there.
func (s backendSettings) open(log *slog.Logger) (vm.Backend, error) {
	info, err := json.Marshal(s.Info)
	if err != nil {
		return nil, fmt.Errorf("describe guestd: %w", err)
	}
	switch s.Backend {
	case backendKrun:
		return krun.New(krun.Config{
			Runner: s.Runner, LibDir: s.LibDir, KVM: s.KVM, Guestd: s.Guestd, GuestdInfo: info,
			CacheDir: filepath.Join(s.DataDir, "bootdisks"), Logger: log,
		})
	case backendQEMU:
		return qemu.New(qemu.Config{
			Binary: s.QEMU, Kernel: s.Kernel, Guestd: s.Guestd, Accel: qemu.Accel(s.Accel), GuestdInfo: info,
			CacheDir: filepath.Join(s.DataDir, "initramfs"), Logger: log,
		})
	}
	return nil, fmt.Errorf("make backend: %q is unknown; want %s or %s", s.Backend, backendKrun, backendQEMU)
}

// emulated machines are slow.
func (s backendSettings) emulated() bool { return s.Accel == string(qemu.AccelTCG) }

func fileDigest(path string) (digest.Digest, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	d := digest.Canonical.Digester()
	if _, err := io.Copy(d.Hash(), file); err != nil {
		return "", err
	}
	return d.Digest(), nil
}
