// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/supervisor"
)

// runDirFlags say where the machines' directories are.
type runDirFlags struct {
	RunDir string `help:"Directory of running environments. Default: /run/waggle for root, else XDG_RUNTIME_DIR/waggle or /tmp/waggle-UID." env:"WAGGLE_RUN_DIR" placeholder:"DIR"`
}

// runDir returns the run directory, which need not exist and is private if it does:
// whoever can write there can act for its owner.
func (f runDirFlags) runDir() (string, error) {
	dir, err := filepath.Abs(f.runDirPath())
	if err != nil {
		return "", fmt.Errorf("find the run directory: %w; set WAGGLE_RUN_DIR", err)
	}
	if err := supervisor.CheckRunDir(dir, environment.NewID()); err != nil {
		return "", err
	}
	if err := checkPrivate(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return dir, nil
}

// ownRunDir returns the run directory, made and private.
func (f runDirFlags) ownRunDir() (string, error) {
	dir, err := f.runDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make the run directory: %w; set WAGGLE_RUN_DIR", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make the run directory: %w; set WAGGLE_RUN_DIR", err)
	}
	return dir, checkPrivate(dir)
}

// runDirPath is where the run directory is to be.
func (f runDirFlags) runDirPath() string {
	if f.RunDir != "" {
		return f.RunDir
	}
	return defaultRunDir(os.Getuid(), os.Getenv)
}

func defaultRunDir(uid int, getenv func(string) string) string {
	if uid == 0 {
		return "/run/waggle"
	}
	if base := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		return filepath.Join(base, "waggle")
	}
	return fmt.Sprintf("/tmp/waggle-%d", uid)
}

// checkPrivate refuses a directory that somebody else made, as anyone may in
// /tmp, or could enter.
func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("check the run directory: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("run directory %s is not a directory: remove it or set WAGGLE_RUN_DIR", dir)
	case ok && int(st.Uid) != os.Getuid():
		return fmt.Errorf("run directory %s belongs to uid %d, not to you: set WAGGLE_RUN_DIR", dir, st.Uid)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("run directory %s is open to others (%04o): run `chmod 700 %s`, or set WAGGLE_RUN_DIR",
			dir, info.Mode().Perm(), dir)
	}
	return nil
}

// vmFlags are the settings of whatever makes machines.
type vmFlags struct {
	dataFlags
	runDirFlags
	backendFlags
	fetchFlags
	diskLimitFlags

	Kernel    string `help:"Guest kernel of QEMU's machines: a directory made by images/kernel, or an image that needs no modules. Default: DATA/kernel/current." env:"WAGGLE_KERNEL" placeholder:"PATH"`
	GuestdDir string `help:"Directory of guestd-linux-ARCH. Default: the one of waggle." env:"WAGGLE_GUESTD_DIR" placeholder:"DIR"`
	Guestd    string `help:"Which guestd serves a machine: ${enum}. The image's where it has one that fits and the host's otherwise, the image's or no machine, or never the image's." enum:"auto,baked,host" default:"auto" env:"WAGGLE_GUESTD"`
	GuestCA   string `name:"guest-ca" help:"PEM file with the certificates that guests trust. Default: the host's." env:"WAGGLE_GUEST_CA" placeholder:"FILE"`

	CPUs     uint32 `name:"cpus" help:"Virtual CPUs, at most 4 for each of this host's." default:"1" env:"WAGGLE_DEFAULT_CPUS"`
	MemoryMB uint32 `name:"memory-mb" help:"Memory in MiB, at most this host's." default:"512" env:"WAGGLE_DEFAULT_MEMORY_MB"`
	DiskMB   uint32 `name:"disk-mb" help:"Size of the writable disk in MiB; it takes only what is used." default:"10240" env:"WAGGLE_DEFAULT_DISK_MB"`

	KeepResults      time.Duration `help:"How long an ended command can be attached to, and asked for again under its id without being run twice; at most 720h." default:"1h" env:"WAGGLE_KEEP_RESULTS"`
	KeepResultsCount uint32        `help:"How many ended commands are kept in a machine, at most 10000." default:"256" env:"WAGGLE_KEEP_RESULTS_COUNT"`
	KeepResultsMB    uint32        `name:"keep-results-mb" help:"MiB of all commands' output that a machine's disk holds; the oldest of ended ones goes first." default:"1024" env:"WAGGLE_KEEP_RESULTS_MB"`

	ImagePython string `help:"Image of the python runtime. Default: waggle/python of the local store, else the reference image." env:"WAGGLE_IMAGE_PYTHON" placeholder:"REF"`
	ImageNode   string `help:"Image of the node runtime." env:"WAGGLE_IMAGE_NODE" placeholder:"REF"`
	ImageShell  string `help:"Image of the shell runtime." env:"WAGGLE_IMAGE_SHELL" placeholder:"REF"`
}

// launcher wires what makes machines. holder owns them while they start; backend is
// what the method of that name gives.
func (f *vmFlags) launcher(holder string, backend json.RawMessage) (*environment.Launcher, error) {
	data, err := f.ownDataDir()
	if err != nil {
		return nil, err
	}
	store, err := f.openStore()
	if err != nil {
		return nil, err
	}
	disks, err := disk.Open(filepath.Join(data, "disks"), f.limits())
	if err != nil {
		return nil, fmt.Errorf("open the disk cache: %w", err)
	}
	run, err := f.ownRunDir()
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the waggle binary: %w", err)
	}
	images, _, err := f.runtimes(os.Environ())
	if err != nil {
		return nil, err
	}
	l := &environment.Launcher{
		Store: store, Disks: disks, Exe: exe, RunDir: run, ScratchDir: scratchDir(data),
		Images:  images,
		Backend: backend, Holder: holder,
		Check: func() error { return errors.Join(checkBackend(backend)...) },
	}
	l.Resolve = f.resolve()
	l.Results = supervisor.ResultLimits{Age: f.KeepResults, Count: f.KeepResultsCount, OutputMiB: f.KeepResultsMB}
	l.Defaults.CPUs, l.Defaults.MemoryMiB, l.Defaults.DiskMiB = f.CPUs, f.MemoryMB, f.DiskMB
	return l, nil
}

// images are the flags of the runtimes' images.
func (f *vmFlags) images() map[string]string {
	return map[string]string{"python": f.ImagePython, "node": f.ImageNode, "shell": f.ImageShell}
}
