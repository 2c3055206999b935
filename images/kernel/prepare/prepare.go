// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
)

// lockRetry is how often a second preparation looks whether the first is done.
const lockRetry = 100 * time.Millisecond

// defaultModules are what a guest needs that Debian's kernel has no built-in
// driver for. Their dependencies come from the modules themselves.
var defaultModules = []string{
	"virtio_pci", "vmw_vsock_virtio_transport", "virtio_blk", "overlay", "virtio_net", "virtio_rng",
}

// Options of Prepare. Only Out is required.
type Options struct {
	// Out is the directory that holds prepared kernels. It is made if missing.
	Out string
	// Arch is a Go architecture name; this machine's by default.
	Arch string
	// Package is the Debian package, linux-image-cloud-<arch> by default. A
	// package that only depends on the versioned one is followed.
	Package string
	// Modules to take along, with their dependencies. What the kernel has
	// built in is left out.
	Modules []string
	// Step is told of each step when it is done. May be nil.
	Step func(what string, took time.Duration)
}

// Kernel is a prepared kernel. All but Dir is in its kernel.json.
type Kernel struct {
	Dir            string   `json:"-"`
	Version        string   `json:"version"`
	Arch           string   `json:"arch"`
	Package        string   `json:"package"`
	PackageVersion string   `json:"package_version"`
	InputHash      string   `json:"input_hash"`
	Modules        []string `json:"modules"`
}

// Prepare returns the kernel for opts, from the cache when it is there. It may
// be called concurrently, also from several processes: one prepares, the others
// wait for it. Without a network, or without apt, it returns the current kernel
// if there is one.
func Prepare(ctx context.Context, opts Options) (*Kernel, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Out, 0o755); err != nil {
		return nil, fmt.Errorf("create kernel directory: %w", err)
	}
	lock := flock.New(filepath.Join(opts.Out, ".lock"))
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("lock kernel directory %s: %w", opts.Out, err)
	}
	defer lock.Close()

	start := time.Now()
	deb, err := resolveOnce(ctx, opts.Out, opts.Package)
	if err != nil {
		if kernel, cacheErr := current(opts.Out, opts.Arch); cacheErr == nil {
			opts.Step(fmt.Sprintf("kept kernel %s (%v)", kernel.Version, err), time.Since(start))
			return kernel, nil
		}
		return nil, err
	}
	opts.Step(fmt.Sprintf("resolved %s to %s %s", opts.Package, deb.name, deb.version), time.Since(start))
	return prepareDeb(ctx, opts, deb)
}

func prepareDeb(ctx context.Context, opts Options, deb debPackage) (*Kernel, error) {
	hash := inputHash(opts, deb)
	if kernel, err := cached(opts.Out, hash); err != nil || kernel != nil {
		return kernel, err
	}
	work, err := newWorkDir(opts.Out)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)

	start := time.Now()
	tree := filepath.Join(work, "tree")
	if err := deb.unpack(ctx, work, tree); err != nil {
		return nil, err
	}
	opts.Step("downloaded and unpacked "+deb.name, time.Since(start))

	start = time.Now()
	kernel := &Kernel{Arch: opts.Arch, Package: deb.name, PackageVersion: deb.version, InputHash: hash}
	result := filepath.Join(work, "result")
	if err := build(kernel, opts.Modules, tree, result); err != nil {
		return nil, fmt.Errorf("prepare kernel from %s: %w", deb.name, err)
	}
	opts.Step(fmt.Sprintf("extracted the kernel and %d modules", len(kernel.Modules)), time.Since(start))
	return kernel, publish(opts.Out, result, kernel)
}

// build fills dir from the unpacked package in tree.
func build(kernel *Kernel, wanted []string, tree, dir string) error {
	images, err := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return fmt.Errorf("want one boot/vmlinuz-* in the package, found %d", len(images))
	}
	kernel.Version = filepath.Base(images[0])[len("vmlinuz-"):]
	raw, err := os.ReadFile(images[0])
	if err != nil {
		return fmt.Errorf("read kernel: %w", err)
	}
	image, err := Uncompress(kernel.Arch, raw)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "modules"), 0o755); err != nil {
		return fmt.Errorf("create kernel directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vmlinux"), image, 0o644); err != nil {
		return fmt.Errorf("write kernel: %w", err)
	}
	modules, err := selectModules(moduleRoot(tree, kernel.Version), wanted)
	if err != nil {
		return err
	}
	for i, m := range modules {
		name := fmt.Sprintf("%02d-%s.ko", i, m.name)
		if err := os.WriteFile(filepath.Join(dir, "modules", name), m.data, 0o644); err != nil {
			return fmt.Errorf("write module: %w", err)
		}
		kernel.Modules = append(kernel.Modules, name)
	}
	return writeManifest(dir, kernel)
}

func (o Options) withDefaults() (Options, error) {
	if o.Out == "" {
		return o, fmt.Errorf("no directory for the kernel given")
	}
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	// Debian's names for these two are Go's.
	if o.Arch != "amd64" && o.Arch != "arm64" {
		return o, fmt.Errorf("no guest kernel for architecture %s: %s", o.Arch, remedy)
	}
	if o.Package == "" {
		o.Package = "linux-image-cloud-" + o.Arch
	}
	if o.Modules == nil {
		o.Modules = defaultModules
	}
	if o.Step == nil {
		o.Step = func(string, time.Duration) {}
	}
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return o, fmt.Errorf("resolve kernel directory: %w", err)
	}
	o.Out = out
	return o, nil
}
