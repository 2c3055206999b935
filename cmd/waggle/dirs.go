// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dataFlags say where images, disks and the kernel are kept.
type dataFlags struct {
	DataDir string `help:"Directory of images, disks and the kernel. Default: /var/lib/waggle for root, else XDG_DATA_HOME/waggle." env:"WAGGLE_DATA_DIR" placeholder:"DIR"`
}

// dataDir returns the directory, absolute; it need not exist yet.
func (f dataFlags) dataDir() (string, error) {
	dir := f.DataDir
	if dir == "" {
		dir = defaultDataDir(os.Getuid(), os.Getenv)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the data directory: %w; set WAGGLE_DATA_DIR", err)
	}
	return abs, nil
}

// ownDataDir returns the directory, which then exists and can be written.
func (f dataFlags) ownDataDir() (string, error) {
	const remedy = "set WAGGLE_DATA_DIR to a directory of yours"
	dir, err := f.dataDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the data directory: %w; %s", err, remedy)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return "", fmt.Errorf("the data directory %s cannot be written: %w; %s", dir, err, remedy)
	}
	return dir, nil
}

// defaultDataDir follows the XDG base directory specification but for root,
// whose data is the machine's.
func defaultDataDir(uid int, getenv func(string) string) string {
	if uid == 0 {
		return "/var/lib/waggle"
	}
	if base := getenv("XDG_DATA_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "waggle")
	}
	return filepath.Join(getenv("HOME"), ".local", "share", "waggle")
}
