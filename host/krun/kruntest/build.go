// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kruntest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const module = "github.com/stacklok/waggle"

// unusedLimit is the age at which a build that no test has used since is waste: the
// firmware holds a guestd, and each change of it makes a new one.
const unusedLimit = 3 * 24 * time.Hour

var cFlags = []string{
	"-std=gnu11", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-pthread",
	"-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion",
}

// sourceDir is where the C sources lie.
var sourceDir = sync.OnceValues(func() (string, error) {
	out, err := run("", "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return "", err
	}
	return filepath.Join(strings.TrimSpace(out), "host", "krun", "testdata", "double"), nil
})

// sources are the paths of the library's own files.
func sources() ([]string, error) {
	dir, err := sourceDir()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.c"))
	return slices.DeleteFunc(files, func(f string) bool {
		return filepath.Base(f) == "firmware.c" || filepath.Base(f) == "driver.c"
	}), err
}

// built are the paths of what this process has built, by name and flags. Whoever
// wants one waits for it.
var built = struct {
	sync.Mutex
	paths map[string]string
}{paths: map[string]string{}}

// once builds what has this name, with these flags, unless it is built already.
func once(build func(flags []string) (string, error), name string, flags ...string) (string, error) {
	slices.Sort(flags)
	key := name + " " + strings.Join(flags, " ")
	built.Lock()
	defer built.Unlock()
	if path, ok := built.paths[key]; ok {
		return path, nil
	}
	path, err := build(flags)
	if err == nil {
		built.paths[key] = path
	}
	return path, err
}

func buildLibrary(flags []string) (string, error) {
	files, err := sources()
	if err != nil {
		return "", err
	}
	args := slices.Concat(cFlags, flags, []string{"-shared", "-Wl,-soname," + Library}, files,
		// libkrun needs it too, for its panics.
		[]string{"-ldl", "-Wl,--no-as-needed", "-lgcc_s"})
	header := filepath.Join(filepath.Dir(files[0]), "double.h")
	return compile(Library, "", args, append(files, header))
}

// buildFirmware makes the library that carries guestd and the guest's program.
func buildFirmware(flags []string) (string, error) {
	work, err := os.MkdirTemp("", "wd")
	if err != nil {
		return "", fmt.Errorf("build firmware: %w", err)
	}
	defer os.RemoveAll(work)
	guestd, program := filepath.Join(work, "guestd"), filepath.Join(work, "guest")
	for out, pkg := range map[string]string{guestd: "/cmd/guestd", program: "/cmd/waggle/testdata/guest"} {
		if _, err := run("", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, module+pkg); err != nil {
			return "", err
		}
	}
	dir, err := sourceDir()
	if err != nil {
		return "", err
	}
	source := filepath.Join(dir, "firmware.c")
	args := slices.Concat(cFlags, flags, []string{
		"-shared", "-Wl,-soname," + Firmware, `-DGUESTD="guestd"`, `-DPROGRAM="guest"`, source,
	})
	return compile(Firmware, work, args, []string{source, guestd, program})
}

func buildDriver([]string) (string, error) {
	dir, err := sourceDir()
	if err != nil {
		return "", err
	}
	source := filepath.Join(dir, "driver.c")
	return compile("driver", "", slices.Concat(cFlags, []string{source, "-ldl"}), []string{source})
}

// compile runs gcc in work, unless it did with the same flags and the same content
// of the inputs. The result must not be written to.
func compile(name, work string, args, inputs []string) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	key, err := inputHash(args, inputs)
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, name+"-"+key)
	if now := time.Now(); os.Chtimes(out, now, now) == nil {
		return out, nil
	}
	fresh := fmt.Sprintf("%s.%d", out, os.Getpid()) // another process may be at it
	defer os.Remove(fresh)
	if _, err := run(work, "gcc", append([]string{"-o", fresh}, args...)...); err != nil {
		return "", fmt.Errorf("%w (install gcc and libc6-dev: scripts/deps.sh)", err)
	}
	if err := os.Rename(fresh, out); err != nil {
		return "", fmt.Errorf("keep double: %w", err)
	}
	return out, nil
}

// inputHash leaves directories out: neither the checkout's nor a temporary one
// matters.
func inputHash(args, inputs []string) (string, error) {
	version, err := run("", "gcc", "--version")
	if err != nil {
		return "", fmt.Errorf("%w (install gcc and libc6-dev: scripts/deps.sh)", err)
	}
	h := sha256.New()
	for _, arg := range append([]string{version}, args...) {
		fmt.Fprintln(h, filepath.Base(arg))
	}
	for _, in := range inputs {
		f, err := os.Open(in)
		if err != nil {
			return "", fmt.Errorf("hash double: %w", err)
		}
		n, err := io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", fmt.Errorf("hash double: %w", err)
		}
		fmt.Fprintln(h, n)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// cacheDir is outside the checkout, like all that tests prepare (docs/testing.md).
var cacheDir = sync.OnceValues(func() (string, error) {
	cache := os.Getenv("WAGGLE_TEST_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find test cache: %w", err)
		}
		cache = filepath.Join(home, ".cache", "waggle-test")
	}
	dir := filepath.Join(cache, "krun-double")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make test cache: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("read test cache: %w", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > unusedLimit {
			_ = os.Remove(filepath.Join(dir, e.Name())) // another test may have been faster
		}
	}
	return dir, nil
})

// run is not bound to one test: what it makes is for all of a process. The time-out
// of go test ends one that hangs.
func run(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...) //nolint:noctx // see above
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", name, err, stderr.String())
	}
	return string(out), nil
}
