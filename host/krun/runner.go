// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/stacklok/waggle/host/remedy"
)

// runnerPackage is what waggle-krun is built of: its build information says so.
const runnerPackage = "github.com/stacklok/waggle/cmd/waggle-krun"

// FindRunner returns the absolute path of waggle-krun. setting is a path
// (WAGGLE_KRUN), or empty: then it is looked for beside this program. It is known
// by what it holds, and is not started.
func FindRunner(setting string) (string, error) {
	path, mend := setting, "set WAGGLE_KRUN to its path, or unset it to take the one beside waggle"
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find waggle-krun: %w; %s", err, mend)
		}
		path = filepath.Join(filepath.Dir(self), "waggle-krun")
		mend = remedy.RunTask("build") + ", which puts it beside waggle, or set WAGGLE_KRUN to its path"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find waggle-krun: %w; %s", err, mend)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w; %s", ErrNoRunner, err, mend)
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return "", fmt.Errorf("%w: %s is not a program; %s", ErrUnfitRunner, path, mend)
	}
	if err := checkAccess(path, true); err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnfitRunner, err)
	}
	if err := checkRunner(path, runtime.GOOS, runtime.GOARCH); err != nil {
		return "", fmt.Errorf("%w: %s %w; %s", ErrUnfitRunner, path, err, mend)
	}
	return path, nil
}

// checkRunner completes "PATH ...".
func checkRunner(path, goos, goarch string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return errors.New("is not waggle-krun: it is no program of Go's")
	}
	if info.Path != runnerPackage {
		return fmt.Errorf("is not waggle-krun, but %.80q", info.Path)
	}
	built := map[string]string{}
	for _, s := range info.Settings {
		built[s.Key] = s.Value
	}
	if built["GOOS"] != goos || built["GOARCH"] != goarch {
		return fmt.Errorf("is for %s/%s, this machine is %s/%s", built["GOOS"], built["GOARCH"], goos, goarch)
	}
	return nil
}
