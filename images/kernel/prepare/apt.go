// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// remedy ends every error that a person can mend without apt.
const remedy = "set WAGGLE_KERNEL to a kernel of your own (a vmlinux with a PVH entry, a bzImage, " +
	"or a directory made by images/kernel)"

// maxDepends bounds how far dependencies are followed from a meta package.
const maxDepends = 4

// debPackage is one exact package in apt's lists.
type debPackage struct {
	name    string
	version string
	sha256  string
}

// resolve follows name through the dependencies of meta packages to the package
// that holds the kernel. Only apt's local lists are read.
func resolve(ctx context.Context, name string) (debPackage, error) {
	for range maxDepends {
		deb, err := candidate(ctx, name)
		if err != nil {
			return debPackage{}, err
		}
		next, err := dependency(ctx, name)
		if err != nil {
			return debPackage{}, err
		}
		if next == "" {
			return deb, nil
		}
		name = next
	}
	return debPackage{}, fmt.Errorf("resolve kernel package: %s still depends on another kernel package", name)
}

// candidate reads the version that apt would download.
func candidate(ctx context.Context, name string) (debPackage, error) {
	out, err := tool(ctx, "", "apt-cache", "show", "--no-all-versions", "--", name)
	if err != nil {
		return debPackage{}, fmt.Errorf("find package %s: %w; run `apt-get update`, or %s", name, err, remedy)
	}
	deb := debPackage{name: name}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Version":
			deb.version = value
		case "SHA256":
			deb.sha256 = value
		}
	}
	if deb.version == "" || deb.sha256 == "" {
		return debPackage{}, fmt.Errorf("find package %s: apt knows no version of it; run `apt-get update`, or %s",
			name, remedy)
	}
	return deb, nil
}

// dependency is the kernel package that a meta package stands for, or "" for a
// package that is not one.
func dependency(ctx context.Context, name string) (string, error) {
	out, err := tool(ctx, "", "apt-cache", "depends", "--important", "--", name)
	if err != nil {
		return "", fmt.Errorf("read dependencies of %s: %w", name, err)
	}
	for line := range strings.Lines(out) {
		dep, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		if ok && strings.HasPrefix(dep, "linux-image-") {
			return dep, nil
		}
	}
	return "", nil
}

// unpack downloads the package into work and unpacks it into tree. apt checks
// the archive's signatures and the package's hash.
func (d debPackage) unpack(ctx context.Context, work, tree string) error {
	if _, err := tool(ctx, work, "apt-get", "download", "-q", "--", d.name+"="+d.version); err != nil {
		return fmt.Errorf("download %s: %w; run `apt-get update` and try again, or %s", d.name, err, remedy)
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("download %s: want one file, found %d", d.name, len(debs))
	}
	if _, err := tool(ctx, work, "dpkg-deb", "-x", debs[0], tree); err != nil {
		return fmt.Errorf("unpack %s: %w", d.name, err)
	}
	return nil
}

// tool runs a program in dir and returns its standard output. An error carries
// what it wrote to standard error.
func tool(ctx context.Context, dir, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s is not installed: a kernel can be prepared on Debian and Ubuntu only", name)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
