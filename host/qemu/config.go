// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/stacklok/waggle/host/qemu/initramfs"
	"github.com/stacklok/waggle/host/remedy"
	"github.com/stacklok/waggle/host/vmm"
)

// Accel says how guest code is run.
type Accel string

// The values of Accel.
const (
	AccelAuto Accel = "auto" // KVM if ProbeKVM finds nothing wrong, else TCG
	AccelKVM  Accel = "kvm"
	AccelTCG  Accel = "tcg"
)

// What New may find missing. The error names the remedy.
var (
	ErrNoBinary = errors.New("qemu is not installed")
	// ErrBadBinary is a setting that names none.
	ErrBadBinary = errors.New("WAGGLE_QEMU (--qemu) names no program")
	ErrNoKernel  = errors.New("no guest kernel")
	ErrNoGuestd  = errors.New("no guest agent")
)

// MissingError is all that New has not found, each with its remedy, so that it can be
// mended in one go.
type MissingError []error

func (e MissingError) Error() string { return errors.Join(e...).Error() }

// Unwrap is for errors.Is.
func (e MissingError) Unwrap() []error { return e }

// Config says what all machines of a backend have in common. Kernel, Guestd and
// CacheDir are required.
type Config struct {
	// Binary is a path or a name in PATH; qemu-system-<arch> by default.
	Binary string
	// Kernel is a directory made by images/kernel, or a kernel image that needs
	// no modules.
	Kernel string
	// Guestd is the static guest agent, which becomes /init.
	Guestd string
	// GuestdInfo goes to the guest in boot.json as it is. May be nil.
	GuestdInfo json.RawMessage
	// CacheDir holds initial file systems by the hash of their content.
	CacheDir string
	// Accel is AccelAuto if empty.
	Accel Accel
	// User to run QEMU as. If nil: a uid of its own for each machine when the
	// caller is root, the caller otherwise.
	User *vmm.User
	// Logger may be nil.
	Logger *slog.Logger
}

// Backend starts machines with QEMU. Its methods may be called concurrently.
type Backend struct {
	cfg     Config
	arch    arch
	binary  string
	kernel  string
	modules []string
	accel   Accel
	log     *slog.Logger
}

// New checks that everything a machine needs is there, and starts nothing. Of
// parts that are missing the error is a MissingError.
func New(cfg Config) (*Backend, error) {
	b := &Backend{cfg: cfg, log: cfg.Logger}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if b.arch, err = archFor(runtime.GOARCH); err != nil {
		return nil, err
	}
	var noBinary, noKernel, noGuestd error
	b.binary, noBinary = FindBinary(cfg.Binary)
	b.kernel, b.modules, noKernel = findKernel(cfg.Kernel)
	if info, err := os.Stat(cfg.Guestd); err != nil || !info.Mode().IsRegular() {
		noGuestd = fmt.Errorf("%w at %q: %s", ErrNoGuestd, cfg.Guestd, remedy.Guestd("guestd-linux-"+runtime.GOARCH))
	}
	var missing MissingError
	for _, err := range []error{noBinary, noKernel, noGuestd} {
		if err != nil {
			missing = append(missing, err)
		}
	}
	if len(missing) > 0 {
		return nil, missing
	}
	if cfg.CacheDir == "" {
		return nil, errors.New("no cache directory for initial file systems given")
	}
	if b.accel, err = chooseAccel(cfg.Accel, b.log); err != nil {
		return nil, err
	}
	return b, nil
}

// Name is "qemu".
func (b *Backend) Name() string { return "qemu" }

// Accel is how this backend runs guest code: AccelKVM or AccelTCG.
func (b *Backend) Accel() Accel { return b.accel }

// FindBinary returns the path of QEMU for this machine's architecture. binary is
// as in Config.
func FindBinary(binary string) (string, error) {
	a, err := archFor(runtime.GOARCH)
	if err != nil {
		return "", err
	}
	if binary != "" {
		path, err := exec.LookPath(binary)
		if err != nil {
			return "", fmt.Errorf("%w: %w; set it to a QEMU, or unset it to take %s of PATH", ErrBadBinary, err, a.binary)
		}
		return filepath.Abs(path)
	}
	path, err := exec.LookPath(a.binary)
	if err != nil {
		return "", fmt.Errorf("%w: %w; %s", ErrNoBinary, err, remedy.RunApt(a.pkg))
	}
	return filepath.Abs(path)
}

// findKernel returns the kernel image and its modules in load order.
func findKernel(path string) (image string, modules []string, err error) {
	if path == "" {
		return "", nil, fmt.Errorf("%w given: %s", ErrNoKernel, remedy.Kernel())
	}
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("%w at %s: %s", ErrNoKernel, path, remedy.Kernel())
		}
		return "", nil, fmt.Errorf("open kernel: %w", err)
	}
	if !info.IsDir() {
		if err := CheckKernel(path, runtime.GOARCH); err != nil {
			return "", nil, fmt.Errorf("%w; %s", err, remedy.Kernel())
		}
		return path, nil, nil
	}
	// The link `current` may change while machines start: resolve it once.
	dir, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", nil, fmt.Errorf("open kernel directory: %w", err)
	}
	image = filepath.Join(dir, "vmlinux")
	if _, err := os.Stat(image); err != nil {
		return "", nil, fmt.Errorf("%w: %s has no vmlinux; %s", ErrNoKernel, path, remedy.Kernel())
	}
	if err := CheckKernel(image, runtime.GOARCH); err != nil {
		return "", nil, fmt.Errorf("%w; %s", err, remedy.Kernel())
	}
	modules, err = filepath.Glob(filepath.Join(dir, "modules", "*.ko"))
	if err != nil {
		return "", nil, fmt.Errorf("list kernel modules: %w", err)
	}
	slices.Sort(modules)
	return image, modules, nil
}

// chooseAccel turns auto into what works here.
func chooseAccel(want Accel, log *slog.Logger) (Accel, error) {
	switch want {
	case AccelTCG:
		return AccelTCG, nil
	case AccelKVM:
		if err := ProbeKVM(); err != nil {
			return "", err
		}
		return AccelKVM, nil
	case AccelAuto, "":
		if err := ProbeKVM(); err != nil {
			log.Debug("no KVM, emulating", slog.Any("reason", err))
			return AccelTCG, nil
		}
		return AccelKVM, nil
	}
	return "", fmt.Errorf("unknown accelerator %q: want auto, kvm or tcg", want)
}

// content is what this backend's initial file system is made of.
func (b *Backend) content() initramfs.Content {
	return initramfs.Content{Guestd: b.cfg.Guestd, Modules: b.modules, GuestdInfo: b.cfg.GuestdInfo}
}
