// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const moduleDir = waggleDir + "/modules"

// loadModules loads all modules in the order of their names. One that the kernel
// refuses is logged and passed over: its hardware may be missing, or the kernel
// may have it built in. What depends on it fails later with words of its own.
func loadModules(log *slog.Logger) error {
	paths, err := filepath.Glob(moduleDir + "/*.ko")
	if err != nil {
		return fmt.Errorf("list modules: %w", err)
	}
	for _, path := range paths {
		err := loadModule(path)
		if errors.Is(err, unix.ENOSYS) {
			return nil // a kernel without modules
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			log.Warn("module not loaded", slog.String("path", path), slog.Any("err", err))
		}
	}
	return nil
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.FinitModule(int(file.Fd()), "", 0)
}
