// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// layoutVersion changes the input hash when the result changes for the
	// same package.
	layoutVersion = "1"
	manifestName  = "kernel.json"
	currentName   = "current"
	workPattern   = ".work-*"
)

// inputHash names all that the result depends on.
func inputHash(opts Options, deb debPackage) string {
	h := sha256.New()
	for _, in := range []string{
		layoutVersion, opts.Arch, deb.name, deb.version, deb.sha256, strings.Join(opts.Modules, ","),
	} {
		fmt.Fprintf(h, "%d:%s\n", len(in), in)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// newWorkDir makes a directory on the same file system as the result. The
// caller holds the lock, so those of dead processes can go.
func newWorkDir(out string) (string, error) {
	stale, err := filepath.Glob(filepath.Join(out, workPattern))
	if err != nil {
		return "", fmt.Errorf("list stale work directories: %w", err)
	}
	for _, dir := range stale {
		if err := os.RemoveAll(dir); err != nil {
			return "", fmt.Errorf("remove stale work directory: %w", err)
		}
	}
	work, err := os.MkdirTemp(out, workPattern)
	if err != nil {
		return "", fmt.Errorf("create work directory: %w", err)
	}
	return work, nil
}

// cached returns the kernel with this input hash and makes it the current one,
// or nil when there is none.
func cached(out, hash string) (*Kernel, error) {
	dirs, err := filepath.Glob(filepath.Join(out, "*-"+hash))
	if err != nil || len(dirs) == 0 {
		return nil, err
	}
	kernel, err := readManifest(dirs[0])
	if err != nil {
		return nil, err
	}
	return kernel, setCurrent(out, kernel)
}

// current returns the kernel that is current, if it is for arch.
func current(out, arch string) (*Kernel, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(out, currentName))
	if err != nil {
		return nil, err
	}
	kernel, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	if kernel.Arch != arch {
		return nil, fmt.Errorf("current kernel is for %s", kernel.Arch)
	}
	return kernel, nil
}

// publish gives the finished directory its name and makes it the current one.
func publish(out, result string, kernel *Kernel) error {
	kernel.Dir = filepath.Join(out, kernel.Version+"-"+kernel.InputHash)
	if err := os.Rename(result, kernel.Dir); err != nil {
		return fmt.Errorf("publish kernel: %w", err)
	}
	return setCurrent(out, kernel)
}

func setCurrent(out string, kernel *Kernel) error {
	link, target := filepath.Join(out, currentName), filepath.Base(kernel.Dir)
	if old, err := os.Readlink(link); err == nil && old == target {
		return nil
	}
	// A link cannot be overwritten, but it can be renamed over another one.
	next := link + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set current kernel: %w", err)
	}
	if err := os.Symlink(target, next); err != nil {
		return fmt.Errorf("set current kernel: %w", err)
	}
	if err := os.Rename(next, link); err != nil {
		return fmt.Errorf("set current kernel: %w", err)
	}
	return nil
}

func readManifest(dir string) (*Kernel, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, fmt.Errorf("read prepared kernel: %w", err)
	}
	kernel := &Kernel{Dir: dir}
	if err := json.Unmarshal(data, kernel); err != nil {
		return nil, fmt.Errorf("read prepared kernel %s: %w", dir, err)
	}
	return kernel, nil
}

func writeManifest(dir string, kernel *Kernel) error {
	data, err := json.MarshalIndent(kernel, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", manifestName, err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestName), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", manifestName, err)
	}
	return nil
}
