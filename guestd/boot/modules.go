// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	waggleDir = "/lib/waggle"
	moduleDir = waggleDir + "/modules"
)

// Info is the identity of a guestd, in boot.json of the initial file system and
// beside the binary that was baked into an image.
type Info struct {
	Version     string `json:"version"`
	ProtocolMin uint32 `json:"protocol_min"`
	ProtocolMax uint32 `json:"protocol_max"`
	// Digest of the binary, as "sha256:<hex>".
	Digest string `json:"digest"`
}

// readInfo returns what /lib/waggle/boot.json says of this guestd. A boot medium
// without that file is fine.
func readInfo() (Info, error) {
	data, err := os.ReadFile(waggleDir + "/boot.json")
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, nil
	}
	if err != nil {
		return Info{}, fmt.Errorf("read boot.json: %w", err)
	}
	var boot struct {
		Guestd Info `json:"guestd"`
	}
	if err := json.Unmarshal(data, &boot); err != nil {
		return Info{}, fmt.Errorf("parse boot.json: %w", err)
	}
	return boot.Guestd, nil
}

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
