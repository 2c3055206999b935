// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/remedy"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vmm"
)

// What New may find missing. The error names the remedy.
var (
	ErrNoLibrary     = errors.New("libkrun is not installed")
	ErrNoFirmware    = errors.New("libkrunfw is not installed")
	ErrUnfit         = errors.New("this libkrun cannot run machines")
	ErrUnfitFirmware = errors.New("this libkrunfw cannot run machines")
	ErrNoRunner      = errors.New("no waggle-krun")
	ErrUnfitRunner   = errors.New("this waggle-krun cannot run machines")
	ErrNoGuestd      = errors.New("no guest agent")
	ErrNoHypervisor  = errors.New("no hypervisor")
)

// Config says what all machines of a backend have in common. Runner, Guestd and
// CacheDir are required.
type Config struct {
	// Runner is the path of waggle-krun; see FindRunner.
	Runner string
	// LibDir is the directory of libkrun and libkrunfw (WAGGLE_KRUN_LIB_DIR).
	// Empty: Find looks in the usual places.
	LibDir string
	// Guestd is the static guest agent.
	Guestd string
	// GuestdInfo goes to the guest in boot.json as it is. May be nil.
	GuestdInfo json.RawMessage
	// CacheDir holds boot disks by the hash of their content.
	CacheDir string
	// KVM is the hypervisor's device, /dev/kvm if empty. A test gives another
	// file that can be opened for reading and writing: the machine gets it as
	// its /dev/kvm, and New does not ask it whether it is KVM.
	KVM string
	// User to run waggle-krun as. If nil: a uid of its own for each machine when
	// the caller is root, the caller otherwise.
	User *vmm.User
	// Logger may be nil.
	Logger *slog.Logger
}

// Backend starts machines with libkrun. Its methods may be called concurrently.
type Backend struct {
	cfg  Config
	libs Libraries
	kvm  string // empty on macOS
	// launcher is launch, but in tests that refuse namespaces.
	launcher func(*Backend, spec.Machine, *vm.NIC) (child, error)
	log      *slog.Logger
}

// New checks that everything a machine needs is there, and starts nothing.
func New(cfg Config) (*Backend, error) {
	b := &Backend{cfg: cfg, log: cfg.Logger, launcher: (*Backend).launch}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if b.libs, err = Find(cfg.LibDir); err != nil {
		return nil, err
	}
	if b.cfg.Runner, err = FindRunner(cfg.Runner); err != nil {
		return nil, err
	}
	if info, err := os.Stat(cfg.Guestd); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w at %q: %s", ErrNoGuestd, cfg.Guestd, remedy.Guestd("guestd-linux-"+runtime.GOARCH))
	}
	if cfg.CacheDir == "" {
		return nil, errors.New("no cache directory for boot disks given")
	}
	if b.kvm, err = hypervisor(cfg.KVM); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoHypervisor, err)
	}
	return b, nil
}

// Name is "krun".
func (b *Backend) Name() string { return "krun" }

// Libraries are what the machines are started with.
func (b *Backend) Libraries() Libraries { return b.libs }
